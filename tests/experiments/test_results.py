"""What a run leaves on disk, and what is said of one that is missing or damaged."""

import zlib
from dataclasses import replace

import chex
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import yaml
from small_experiments import forget_config

from maven_jax.config import Config, from_dict, to_dict
from maven_jax.errors import ConfigError, StorageError
from maven_jax.experiments.array_files import fit_arrays
from maven_jax.experiments.folder import load_setup, parts_of
from maven_jax.experiments.metrics import MetricsWriter
from maven_jax.experiments.new_folder import Setup, create_folder, create_run_folder, write_info
from maven_jax.experiments.points import on_grid, points_of, quartiles
from maven_jax.experiments.run import load_run
from maven_jax.experiments.weights import read_weights, save_weights
from maven_jax.reports.marl_eval import marl_eval_data
from maven_jax.reports.plots import draw_curves, step_grid
from maven_jax.reports.tables import points_table
from maven_jax.types import Params


@pytest.fixture
def folder(tmp_path):
    """A small run of two seeds: three evaluations of seed 7, two of seed 8."""
    path = tmp_path / "run"
    create_run_folder(path, Config(), {"status": "finished", "lanes": {"seed": [7, 8]}})
    writer = MetricsWriter(path, {"seed": np.array([7, 8])})
    for steps, returns, active in (
        ([10, 12], [1.0, 2.0], [True, True]),
        ([20, 25], [3.0, 4.0], [True, True]),
        ([30, 25], [5.0, 9.0], [True, False]),
    ):
        metrics = {
            "return": np.float32(returns),
            "env_steps": np.int32(steps),
            "num_updates": np.int32([1, 1]),
            "return_z": np.float32([[1, 2], [3, 4]]),
        }
        writer.write(metrics, np.array(active))
    writer.close()
    return path


def test_pandas_opens_the_metrics_in_one_line(folder):
    table = pd.read_csv(folder / "metrics.csv")
    assert " ".join(table.columns) == "seed env_steps num_updates return return_z_0 return_z_1"
    assert list(table["seed"]) == [7, 8, 7, 8, 7]
    assert list(table["return"]) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_curves_are_read_back_seed_by_seed(folder):
    assert load_run(folder).config == Config()
    (steps_7, returns_7), (steps_8, returns_8) = load_run(folder).curves("return")
    np.testing.assert_array_equal(steps_7, [10, 20, 30])
    np.testing.assert_array_equal(returns_7, [1, 3, 5])
    np.testing.assert_array_equal(steps_8, [12, 25])
    np.testing.assert_array_equal(returns_8, [2, 4])


def test_a_curve_on_the_grid_is_the_latest_evaluation_so_far():
    grid = np.array([5, 10, 19, 20, 99])
    curve = on_grid(np.array([10, 20]), np.array([1.0, 2.0]), grid)
    np.testing.assert_array_equal(curve, [np.nan, 1.0, 1.0, 2.0, 2.0])


def test_curves_are_drawn_at_their_evaluations_where_no_lane_is_ahead_by_one(folder):
    run = load_run(folder)
    np.testing.assert_array_equal(step_grid(run), np.arange(1, 26))  # evenly, to the last of both
    without_third = {name: values[:4] for name, values in run.metrics.items()}
    np.testing.assert_array_equal(step_grid(replace(run, metrics=without_third)), [12, 25])
    ahead = without_third | {"env_steps": np.array([10, 20, 20, 25])}
    np.testing.assert_array_equal(step_grid(replace(run, metrics=ahead)), np.arange(1, 21))
    of_seed_7 = {name: values[run.metrics["seed"] == 7] for name, values in run.metrics.items()}
    alone = replace(run, info=run.info | {"lanes": {"seed": [7]}}, metrics=of_seed_7)
    np.testing.assert_array_equal(step_grid(alone), [10, 20, 30])


def test_quartiles_over_seeds_on_the_grid(folder):
    np.testing.assert_allclose(
        quartiles(load_run(folder), "return", np.array([15, 30])),
        [[1.25, 4.25], [1.5, 4.5], [1.75, 4.75]],
    )


def test_final_values_are_those_of_each_seed_s_last_evaluation(folder):
    """The run stopped early: seed 8 got to 25 steps, seed 7 to 30."""
    run = load_run(folder)
    assert run.last_step == 25
    np.testing.assert_array_equal(run.final("return"), [5.0, 4.0])
    np.testing.assert_array_equal(run.final("env_steps"), [30, 25])


def test_an_evaluation_past_the_last_step_is_the_last_one(folder):
    """Seeds end at the first evaluation at or after `total_env_steps`."""
    config = to_dict(Config())
    config["training"]["total_env_steps"] = 22
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    forget_config(folder)
    run = load_run(folder)
    assert run.last_step == 22
    np.testing.assert_array_equal(run.final("return"), [5.0, 4.0])


def test_weights_come_back(folder):
    params = Params(agent={"a": jnp.arange(6.0).reshape(2, 3)}, mixer={}, discriminator={})
    latent_params = {"b": jnp.ones((2, 1))}
    save_weights(folder, params, latent_params, 3)
    arrays = read_weights(folder).arrays
    expected = {"params": params, "latent_params": latent_params}
    chex.assert_trees_all_equal(fit_arrays(arrays, expected, "they do not fit"), expected)


def test_an_existing_folder_is_never_written_to(folder):
    before = sorted(folder.iterdir())
    with pytest.raises(StorageError, match="already exists; choose a new path"):
        create_run_folder(folder, Config(), {})
    assert sorted(folder.iterdir()) == before


def test_an_impossible_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be made: .*file' is not a folder"):
        create_run_folder(tmp_path / "file" / "run", Config(), {})


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "metrics.csv"])
@pytest.mark.parametrize("damage", [None, "", "\x00{[", "1\n2,3\n"])
def test_damage_is_named_with_its_file(folder, name, damage):
    if damage is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(damage)
    with pytest.raises(StorageError, match=rf"is damaged: {name}") as error:
        load_run(folder)
    assert "\n" not in str(error.value)


def test_other_damage(folder, tmp_path):
    with pytest.raises(StorageError, match="is not a folder"):
        load_run(tmp_path / "nothing")
    with pytest.raises(StorageError, match="has no weights"):
        read_weights(folder)
    with pytest.raises(ConfigError, match=r"unknown metric of run .*regr"):
        list(load_run(folder).curves("regret"))
    wrong = to_dict(Config()) | {"colour": 3}
    (folder / "config.yaml").write_text(yaml.safe_dump(wrong))
    with pytest.raises(StorageError, match=r"config\.yaml: unknown key 'colour'"):
        load_run(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed,", "seek,", "column seed is missing"),
        ("return_z_1", "return", "column return stands 2 times"),
        ("7,10,", "7,nan,", "column env_steps holds something else"),
        ("7,30,", "7,3,", "env_steps do not increase"),
        ("\n8,", "\n9,", "metrics.csv holds other lanes than run.json names"),
    ],
)
def test_metrics_that_no_run_writes(folder, old, new, message):
    path = folder / "metrics.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(StorageError, match=message):
        load_run(folder)
    if "2 times" in message:
        write_info(folder, {"status": "running", "lanes": {"seed": [7, 8]}})
        with pytest.raises(StorageError, match=message):
            load_run(folder)


@pytest.mark.parametrize(
    ("lanes", "message"),
    [
        ("[7, 8]", r"run\.json: lanes is \[7, 8\]; allowed: columns, seed among them"),
        ("{}", r"run\.json: lanes is {}"),
        ('{"seed": []}', r"run\.json: lanes holds columns of different lengths, or empty"),
        ('{"seed": [7, null]}', r"run\.json: lanes is {'seed': \[7, None\]}; allowed: columns"),
        ('{"seed": [7, 8], "gamma": [1]}', r"run\.json: lanes holds columns of different lengths"),
    ],
)
def test_lanes_that_are_none(folder, lanes, message):
    (folder / "run.json").write_text(f'{{"status": "finished", "lanes": {lanes}}}')
    with pytest.raises(StorageError, match=message):
        load_run(folder)


def test_a_run_folder_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StorageError, match="cannot be made: No space left on device"):
        create_run_folder(tmp_path / "run", Config(), {})
    assert not list(tmp_path.iterdir())


def test_rows_past_a_checkpoint_are_dropped(folder):
    """A writer that is given the length of the rows so far keeps those."""
    first = b"".join((folder / "metrics.csv").read_bytes().splitlines(keepends=True)[:3])
    writer = MetricsWriter(folder, {"seed": np.array([7, 8])}, len(first))
    assert (folder / "metrics.csv").read_bytes() == first
    assert writer.rows == (len(first), zlib.crc32(first))
    row = {"return": [3, 4], "env_steps": [20, 25], "num_updates": [1, 1], "return_z": np.eye(2)}
    writer.write({name: np.float32(value) for name, value in row.items()}, np.array([True, True]))
    writer.close()
    whole = (folder / "metrics.csv").read_bytes()
    assert writer.rows == (len(whole), zlib.crc32(whole))
    assert len(load_run(folder).metrics["seed"]) == 4


@pytest.fixture
def grid_folder(tmp_path):
    """Two seeds at each of two learning rates; the last lane diverged after its first row."""
    path = tmp_path / "grid"
    lanes = {"seed": [0, 1, 0, 1], "hyperparameters.learning_rate": [0.1, 0.1, 0.2, 0.2]}
    broken = {"seed": 1, "hyperparameters.learning_rate": 0.2, "num_updates": 5}
    info = {"status": "finished", "lanes": lanes, "diverged": [broken]}
    create_run_folder(path, Config(), info)
    writer = MetricsWriter(path, {name: np.array(column) for name, column in lanes.items()})
    for number, active in ((1, [1, 1, 1, 1]), (2, [1, 1, 1, 0])):
        steps = np.full(4, 50_000 * number)
        metrics = {"env_steps": steps, "num_updates": steps, "return": np.arange(4.0) + 10 * number}
        writer.write(metrics, np.array(active, bool))
    writer.close()
    return path


def test_a_run_splits_into_the_points_of_its_grid(grid_folder):
    (first, low), (second, high) = load_run(grid_folder).points()
    assert first == {"hyperparameters.learning_rate": 0.1}
    assert second == {"hyperparameters.learning_rate": 0.2}
    np.testing.assert_array_equal(low.final("return"), [20, 21])
    np.testing.assert_array_equal(high.final("return"), [22, 13])  # the last finite value
    assert (low.diverged, len(high.diverged)) == ([], 1)
    assert high.last_step == 100_000  # the lane that diverged is not waited for
    assert high.lanes["seed"] == [0, 1]


def write_run(path, seeds, config=None, rate=None, **info):
    """A run of one evaluation of each seed, which returns ten times the seed."""
    lanes = {"seed": seeds}
    lanes |= {"hyperparameters.learning_rate": [rate] * len(seeds)} if rate else {}
    info = {"status": "finished", "lanes": lanes} | info
    create_run_folder(path, from_dict(config or {}), info)
    writer = MetricsWriter(path, {name: np.array(column) for name, column in lanes.items()})
    steps = np.array(seeds) + 100
    metrics = {"env_steps": steps, "num_updates": steps, "return": 10.0 * np.array(seeds)}
    writer.write(metrics, np.ones(len(seeds), bool))
    writer.close()
    return load_run(path)


def test_seeds_of_one_configuration_are_one_experiment_wherever_they_are(tmp_path):
    """Three folders, of which one spells out what are defaults and one is a point of a sweep."""
    plain = write_run(tmp_path / "plain", [0, 1])
    spelt = write_run(tmp_path / "spelt", [5], {"env": {"options": {"m": 10}}})
    rate = Config().hyperparameters.learning_rate
    swept = write_run(tmp_path / "swept", [3], {"hyperparameters": {"learning_rate": 1}}, rate)
    ((coordinates, run),) = points_of([plain, spelt, swept])
    assert coordinates == {"hyperparameters.learning_rate": rate}
    assert (run.lanes, run.num_lanes) == ({"seed": [0, 1, 5, 3]}, 4)
    np.testing.assert_array_equal(run.final("return"), [0, 10, 50, 30])
    assert run.folders == (plain.path, spelt.path, swept.path)


@pytest.mark.parametrize(
    "other",
    [
        {"training": {"total_env_steps": 200_000}},
        {"hyperparameters": {"learning_rate": 1e-3}},
        {"env": {"options": {"m": 5}}},
        {"evaluation": {"episodes": 3}},
        {"algorithm": "maven_vdn"},
    ],
)
def test_other_configurations_stay_apart(tmp_path, other):
    runs = [write_run(tmp_path / "a", [0]), write_run(tmp_path / "b", [0], other)]
    assert [run.path.name for _, run in points_of(runs)] == ["a", "b"]


def test_converted_weights_are_their_own_experiment(tmp_path):
    runs = [write_run(tmp_path / name, [0], source=name) for name in ("a", "b")]
    assert len(points_of(runs)) == 2


def test_runs_that_started_from_other_weights_are_their_own_experiments(tmp_path):
    """Told apart by lane and, where that is recorded, by what the weights are.

    Not by their folder then, which may be moved, or made anew of others.
    """

    def start(number, seeds, run, lanes, **weights):
        origin = {"run": run, "lanes": {"seed": lanes}, "num_evaluations": 3} | weights
        return write_run(tmp_path / f"{number}", seeds, init_from=origin)

    runs = [write_run(tmp_path / "0", [0]), start(1, [1], "a", [0]), start(2, [2], "a", [1])]
    runs += [start(3, [3], "b", [0]), start(4, [7], "a", [0])]
    runs.append(start(5, [8, 9], "a", [0, 0]))  # as by --lane 0
    runs += [start(6, [10], "base", [0], weights=17), start(7, [11], "moved", [0], weights=17)]
    runs.append(start(8, [12], "base", [0], weights=18))
    seeds = [run.lanes["seed"] for _, run in points_of(runs)]
    assert seeds == [[0], [1, 7, 8, 9], [2], [3], [10, 11], [12]]


@pytest.mark.parametrize("status", ["interrupted", "failed", "running"])
def test_a_run_that_has_not_finished_is_its_own_experiment(tmp_path, status):
    runs = [write_run(tmp_path / "done", [0, 1]), write_run(tmp_path / "also", [2])]
    runs.append(write_run(tmp_path / "cut", [5, 1], status=status))
    points = points_of(runs)
    assert [run.lanes["seed"] for _, run in points] == [[0, 1, 2], [5, 1]]
    table = points_table(points, "return")
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns["unfinished, steps"] == ["", "101"]
    headers = {column.header for column in points_table(points[:1], "return").columns}
    assert "unfinished, steps" not in headers
    ((task, algorithms),) = marl_eval_data(points, 2)["m_step_matrix"].items()
    assert task == "default"
    assert list(algorithms) == ["maven", f"maven,unfinished={tmp_path / 'cut'}"]


def test_paths_may_be_text(tmp_path):
    write_run(tmp_path / "run", [3])
    run = load_run(str(tmp_path / "run"))
    assert run.path == tmp_path / "run"
    assert run.final("return") == [30.0]
    draw_curves([run], str(tmp_path / "new" / "curve.png"))
    assert (tmp_path / "new" / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(StorageError, match="run 'nowhere' is not a folder"):
        load_run("nowhere")


def test_groups_of_one_point_are_joined_and_so_are_their_lanes_that_diverged(tmp_path):
    broken = {"seed": 1, "hyperparameters.learning_rate": 0.1, "num_updates": 5}
    runs = [
        write_run(tmp_path / "a", [0, 1], rate=0.1, diverged=[broken]),
        write_run(tmp_path / "b", [2], rate=0.1),
        write_run(tmp_path / "c", [0], rate=0.2),
    ]
    points = points_of(runs)
    assert [run.num_lanes for _, run in points] == [3, 1]
    assert [len(run.diverged) for _, run in points] == [1, 0]


def test_a_seed_that_an_experiment_has_twice_is_named_with_its_folders(tmp_path):
    runs = [write_run(tmp_path / f"s{seeds}", seeds) for seeds in ([0, 1], [2], [3, 1])]
    with pytest.raises(StorageError) as error:
        points_of(runs)
    assert str(error.value) == (
        f"seed 1 of one configuration is in both '{runs[0].path}' and '{runs[2].path}'; list only "
        "one of them"
    )


def test_a_sweep_folder_holds_its_runs(tmp_path):
    info = {"status": "waiting", "lanes": {"seed": [0]}}
    create_folder(tmp_path / "sweep", dict.fromkeys(("a", "b=1"), Setup(Config(), info)))
    folders = parts_of(tmp_path / "sweep")
    assert [folder.name for folder in folders] == ["a", "b=1"]
    assert all(load_setup(folder)[1].items() >= info.items() for folder in folders)
    with pytest.raises(StorageError, match="exists"):
        create_folder(tmp_path / "sweep", {})
    for parts in ("3", "[]", '["../run"]', "[1]"):
        (tmp_path / "sweep" / "sweep.json").write_text(f'{{"parts": {parts}}}')
        with pytest.raises(StorageError, match=r"parts is .*; allowed: a list of names"):
            parts_of(tmp_path / "sweep")
