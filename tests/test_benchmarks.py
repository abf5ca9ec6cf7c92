"""Each benchmark runs, tiny, and writes what it printed."""

import argparse
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
import yaml
from benchmark_files import BENCHMARKS, load

from maven_jax import make_trainer, override
from maven_jax.config import from_dict
from maven_jax.environments.registry import make_env
from maven_jax.functional import loops
from maven_jax.studies.study import Study, StudyRun

pytestmark = pytest.mark.slow

SMALL = {"network": {"hidden_size": 4, "mixer_embed_size": 4}, "evaluation": {"episodes": 2}}
FEW = {"training": {"batch_size": 2, "updates_per_evaluation": 2}}
TINY = from_dict(SMALL | FEW | {"algorithm": "vdn"})


def test_throughput(tmp_path, capsys):
    out = tmp_path / "record.json"
    arguments = ["--seeds", "2", "--chunks", "1", "--out", str(out)]
    throughput = load("throughput")
    throughput.main(arguments, {"tiny": TINY})
    assert "tiny" in capsys.readouterr().out
    (row,) = json.loads(out.read_text())["rows"]
    assert row["seeds"] == 2
    assert min(row["updates_per_s"], row["compile_s"], row["mib"], row["env_steps_per_s"]) > 0
    assert 0 < row["matmul_share"] < 1
    with pytest.raises(SystemExit, match="2"):
        throughput.main(arguments, {"tiny": TINY})


def test_operations_of_matmuls_are_counted():
    """A batch of 5 products of 2 x 3 and 3 x 4, and a loop of 7 of a vector and a matrix."""

    def program(a, b, x, w):
        step = jax.jit(lambda x, _: (x @ w, None))
        return a @ b, jax.lax.scan(step, x, length=7)

    shapes = (5, 2, 3), (5, 3, 4), (6,), (6, 6)
    jaxpr = jax.make_jaxpr(program)(*(jnp.zeros(shape) for shape in shapes)).jaxpr
    counted = load("throughput").matmul_operations(jaxpr)
    assert counted == 2 * 5 * 2 * 3 * 4 + 7 * 2 * 6 * 6


@pytest.mark.parametrize(
    ("scan", "once"),
    [(loops.scan, 7), (lambda step, x, xs: jax.lax.scan(step, x, xs), 1)],
    ids=["unrolled whole on accelerators", "looped"],
)
def test_operations_of_one_branch_are_counted(scan, once):
    """7 products of 4 x 4, whichever branch runs them; or as many as one round has."""
    w = jnp.ones((4, 4))
    program = jax.make_jaxpr(lambda x: scan(lambda c, _: (c @ w, None), x, jnp.arange(7)))(w)
    count = load("throughput").matmul_operations
    assert count(program.jaxpr) == 7 * 2 * 4**3
    assert count(program.jaxpr, loops_once=True) == once * 2 * 4**3


@pytest.fixture
def sizes():
    """Of `accelerator.py`: two programs, seeds that do not fit, and a study of one run."""
    kind = load("accelerator").Sizes
    config = override(TINY, {"training": {"total_env_steps": 10**6}})
    study = Study("curves", {"vdn": StudyRun(override(TINY, ONE_CHUNK), range(2))})
    seeds = {"matrix": (10**9, 2, 1)}
    return kind({"matrix": {"tiny": config}}, seeds, study, (2,), (2, 1), 0.0)


ONE_CHUNK = {"training": {"total_env_steps": 50}}
LIMITS = {"cpu": {"fp32_flop_per_s": 1e9, "bytes_per_s": 1e8}}


def test_accelerator(sizes, checkout, tmp_path, capsys):
    """All rows are measured, what does not fit is listed, and a second call measures nothing."""
    accelerator, out = load("accelerator"), tmp_path / "record.json"
    task = accelerator.Task("small.yaml", {"MAP_NAME": "3m"}, SMALL, "", ("", ""))
    parts = ["--parts", "matrix", "figure3", "jaxmarl", "--jaxmarl", str(checkout)]
    arguments = [[*parts, "--minutes", "600", "--out", str(out)], sizes, {"task": task}, LIMITS]
    accelerator.main(*arguments)
    printed = capsys.readouterr().out
    assert "left out: matrix, tiny, 1000000000 seeds: 1000000000 runs need " in printed
    record = json.loads(out.read_text())
    (left_out,) = record["left_out"]
    assert left_out["seeds"] == 10**9
    two, one, figure, theirs = record["rows"]
    assert [(row["part"], row["seeds"]) for row in record["rows"]] == [
        *(("matrix", 2), ("matrix", 1), ("figure3", 2), ("jaxmarl", 2))
    ]
    for row, seeds in ((two, 2), (one, 1)):  # each seed has a device of its own
        assert min(x for x in row.values() if isinstance(x, float)) > 0
        assert row["updates_per_s"] == pytest.approx(2 * seeds / row["chunk_s"])
        assert row["updates_per_s_and_seed"] == pytest.approx(2 / row["chunk_s"])
        assert row["s_per_seed"] == pytest.approx(10_000 / row["updates_per_s"])
        operations = 1e6 * row["mflop_per_update"] * row["updates_per_s_and_seed"]
        assert row["share_of_fp32_flop_per_s"] == pytest.approx(operations / 1e9)
        assert row["share_of_bytes_per_s"] > 0
        assert row["times_one_seed"] == pytest.approx(row["updates_per_s"] / one["updates_per_s"])
    assert figure["s_per_seed"] == pytest.approx(figure["seconds"] / 2)
    assert list(figure["median_return"]) == ["vdn"]
    assert theirs["ratio"] == pytest.approx(theirs["ours_ms"] / theirs["jaxmarl_ms"])
    accelerator.main(*arguments)
    assert json.loads(out.read_text())["rows"] == record["rows"]


def test_accelerator_leaves_out_what_takes_too_long(sizes, tmp_path, capsys):
    accelerator, out = load("accelerator"), tmp_path / "record.json"
    accelerator.main(["--parts", "matrix", "--minutes", "0.5", "--out", str(out)], sizes)
    assert "it takes about 60 s, and 30 s are left" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record["rows"] == []
    assert [row["seeds"] for row in record["left_out"]] == [10**9, 2, 1]
    assert record["limits"] is None, "a CPU has none that are published"
    alike = {"part": "matrix", "name": "tiny", "compile_s": 7, "chunk_s": 2}
    slow = alike | {"seeds": 2, "env_steps_per_s_and_seed": 25}
    cases = [*accelerator.cases(["matrix", "figure3"], sizes, {}, None, {})]
    # 3 chunks of 2 s, with more seeds in proportion; 50 steps, 25 a second
    expected = [7 + 6 * 10**9 / 2, 7 + 6, 7 + 6, 7 + 2]
    assert [case.expected_s([slow]) for case in cases] == expected


def test_a_benchmark_ends_in_time_with_the_rows_that_it_has(tmp_path):
    """One row fails, one takes a minute, and the process four seconds."""
    out = tmp_path / "record.json"
    script = f"""
import pathlib, time
from in_time import Case, Report
def slow(rows):
    time.sleep(60)
cases = [Case("part", "fast", 1, lambda rows: {{"x": 1.5}}, lambda rows: 0)]
cases += [Case("part", "fails", 1, lambda rows: {{}}["y"], lambda rows: 0)]
cases += [Case("part", name, 1, slow, lambda rows: 0) for name in ("slow", "last")]
Report(pathlib.Path({str(out)!r}), {{}}, []).measure(cases, time.monotonic() + 4)
raise AssertionError("it has not ended")
"""
    environment = os.environ | {"PYTHONPATH": f"{BENCHMARKS}{os.pathsep}{BENCHMARKS.parent}"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()
    assert b"left out: part, last, 1 seeds: the time is over" in ended.stdout
    record = json.loads(out.read_text())
    assert [row["x"] for row in record["rows"]] == [1.5]
    assert [row["name"] for row in record["left_out"]] == ["fails", "slow", "last"]
    assert b"KeyError: 'y'" in ended.stderr


def test_accelerator_keeps_a_file_that_is_no_record(sizes, tmp_path, capsys):
    other = tmp_path / "other.json"
    for text in ("[]", "{", '{"machine": {}}', "\xff"):
        other.write_bytes(text.encode("latin-1"))
        with pytest.raises(SystemExit, match="2"):
            load("accelerator").main(["--out", str(other)], sizes)
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"--out is '{other}', which is no record of this command, device" in error
        assert other.read_bytes() == text.encode("latin-1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        *((f"--minutes {x}", f"--minutes is {x}; allowed: a number") for x in ("0", "nan", "inf")),
        ("--parts figure4", "invalid choice: 'figure4'"),
        ("--parts jaxmarl", "--parts jaxmarl needs --jaxmarl CHECKOUT"),
        ("--jaxmarl nowhere", "allowed: a clone of JaxMARL"),
        ("--out nowhere/x.json", "whose folder is missing; allowed: a file in a"),
        ("--out .", "which is no record of this command"),
    ],
)
def test_accelerator_refuses_bad_input_in_a_line(words, message, sizes, capsys):
    with pytest.raises(SystemExit, match="2"):
        load("accelerator").main(words.split(), sizes)
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "0 arguments; allowed: DIR [PYTHON_VERSION]"),
        (["DIR", "3.12", "more"], "3 arguments; allowed: DIR [PYTHON_VERSION]"),
        (["DIR", "3.9"], "PYTHON_VERSION is 3.9; allowed: 3.11, 3.12, 3.13"),
    ],
)
def test_wheels_refuses_bad_input_in_a_line(words, message, tmp_path):
    script = ["sh", str(BENCHMARKS / "wheels.sh"), *words]
    ended = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == f"wheels.sh: error: {message}\n"
    assert not list(tmp_path.iterdir())


def test_environments(tmp_path, capsys):
    training = {"total_env_steps": 10**6, "batch_size": 2, "updates_per_evaluation": 1}
    small = {"algorithm": "vdn", "training": training, "evaluation": {"episodes": 1}}
    options = {"cleaner": {"size": 3, "num_agents": 2, "time_limit": 5}}
    environments, out = load("environments"), tmp_path / "record.json"
    arguments = ["--parallel", "3", "--repeats", "1", "--row-slots", "0", "13", "--out", str(out)]
    environments.main(arguments, small | {"network": {"hidden_size": 4}}, options)
    assert "row slots" in capsys.readouterr().out
    alone, in_rows = rows = json.loads(out.read_text())["rows"]
    assert [(row["parallel"], row["row_slots"]) for row in rows] == [(3, 0), (3, 13)]
    assert alone["real_in_acting"] <= 1
    assert in_rows["real_in_acting"] >= 1 - 1 / alone["random_length"]
    assert in_rows["updates_per_step"] > 0
    assert all(min(row["random_steps_per_s"], row["learning_steps_per_s"]) > 0 for row in rows)
    with pytest.raises(SystemExit, match="2"):
        environments.main(arguments, small, options)


def test_kill_and_resume(tmp_path, capsys):
    """The short form of it: one run killed, one stopped, both then the run that never was."""
    kill_and_resume = load("kill_and_resume")
    out = tmp_path / "record.json"
    training = kill_and_resume.CONFIG["training"] | {"total_env_steps": 1000}
    config = kill_and_resume.CONFIG | SMALL | {"algorithm": "vdn", "training": training}
    kill_and_resume.main(["--sigkill", "1", "--saved", "1", "--out", str(out)], config)
    printed = capsys.readouterr().out
    assert "SIGKILL: 1 of 1 identical" in printed
    assert "SIGTERM: 1 of 1 identical" in printed
    assert len(json.loads(out.read_text())["rows"]) == 2


def test_a_record_is_a_new_file_with_the_machine_in_it(tmp_path, capsys):
    record, out = load("record"), tmp_path / "record.json"
    parser = argparse.ArgumentParser()
    record.add_out(parser)
    record.write_record(parser.parse_args([]).out, rows=[1])
    assert not list(tmp_path.iterdir()), "none was asked for"
    record.write_record(parser.parse_args(["--out", str(out)]).out, rows=[1])
    written = out.read_bytes()
    read = json.loads(written)
    assert read.pop("machine")
    assert read == {"rows": [1]}
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--out", str(out)])
    assert f"argument --out: '{out}' exists; allowed: a new file" in capsys.readouterr().err
    assert out.read_bytes() == written


PROGRAM = """
HloModule jit_chunk

%fused (x: f32[2]) -> f32[2] {
  %x = f32[2]{0} parameter(0)
  ROOT %y = f32[2]{0} add(%x, %x)
}

%step (carry: (s32[], f32[2])) -> (s32[], f32[2]) {
  %carry = (s32[], f32[2]{0}) parameter(0)
  %a = f32[2]{0} get-tuple-element(%carry), index=1
  %b = f32[2]{0} fusion(%a), calls=%fused, metadata={op_name="chunk/while/acting/add"}
  %c = (f32[2]{0}, f32[9]{0}) custom-call(%b), metadata={op_name="chunk/jvp(loss)/dot"}
  %g = f32[2]{0} copy(%b)
  ROOT %d = (s32[], f32[2]{0}) tuple(%a, %b)
}

%commands (x.1: f32[2]) -> f32[2] {
  %x.1 = f32[2]{0} parameter(0)
  %e = f32[2]{0} copy(%x.1), metadata={op_name="chunk/transpose(jvp(loss))/mul"}
  ROOT %f = f32[2]{0} fusion(%e), kind=kLoop, calls=%fused
}

ENTRY %main (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  %w = (s32[], f32[2]) while(%p), body=%step, metadata={op_name="chunk/acting/while"}, \
backend_config={"known_trip_count":{"n":"5"}}
  %q = f32[2]{0} get-tuple-element(%w), index=1
  ROOT %r = f32[2]{0} call(%q), to_apply=%commands
}
"""


def test_launches_are_counted_in_loops_and_calls():
    """Five rounds of a fusion, a matmul and a copy of no name, then a copy and such a fusion; where
    the program does not say how many rounds, at most those that are given."""
    launches = load("launches")
    counts = launches.count_launches(PROGRAM)
    assert counts == {"acting": 10, "forward": 5, "backward": 1, "other": 1}
    unknown = PROGRAM.replace("known_trip_count", "no_trip_count")
    with pytest.raises(ValueError, match="a loop without a known number of rounds: %w = "):
        launches.count_launches(unknown)
    counts = launches.count_launches(unknown, most_rounds=7)
    assert counts == {"acting": 14, "forward": 7, "backward": 1, "other": 1}


def test_configurations_are_named_or_those_of_a_study_s_runs(capsys):
    launches = load("launches")
    assert list(launches.read_configs(["qmix", "maven"], None)) == ["qmix", "maven"]
    assert launches.read_configs([], "ten_step")["qtran"].algorithm == "qtran"
    for option in ("--configs", "--study"):
        with pytest.raises(SystemExit, match="2"):
            launches.main([option, "nowhere"])
        assert "unknown" in capsys.readouterr().err.splitlines()[-1]


def test_what_a_branch_or_an_asynchronous_call_launches_is_not_guessed():
    launches = load("launches")
    for opcode in ("conditional", "async-start"):
        with pytest.raises(ValueError, match=f"cannot count what {opcode} launches: ROOT %r"):
            launches.count_launches(PROGRAM.replace("call(%q)", f"{opcode}(%q)"))


def test_collectives_are_operations_not_mentions():
    launches = load("launches")
    assert launches.count_collectives(PROGRAM) == 0
    assert launches.count_collectives(PROGRAM.replace("%q", "%all-reduce")) == 0
    assert launches.count_collectives(PROGRAM.replace("copy(%b)", "all-reduce(%b)")) == 1
    assert launches.count_collectives(PROGRAM.replace("copy(%b)", "all-gather-start(%b)")) == 1
    for unknown in ("no_trip_count", "known_trip_count"):
        branching = PROGRAM.replace("known_trip_count", unknown).replace("call(", "conditional(")
        assert launches.count_collectives(branching.replace("copy(%b)", "all-reduce(%b)")) == 1


STAND_IN = """
import hydra
import jax
import jax.numpy as jnp
import wandb
from omegaconf import OmegaConf


def env_from_config(config):
    return object(), config["MAP_NAME"]


def make_train(config, env):
    rounds = config["TOTAL_TIMESTEPS"] // config["NUM_STEPS"] // config["NUM_ENVS"]

    def one_round(key, index):
        steps = (index + 1) * config["NUM_STEPS"] * config["NUM_ENVS"]
        row = {"env_step": steps, "update_steps": index + 1, "test_score": steps / 100}
        if config["WANDB_MODE"] != "disabled":
            jax.debug.callback(wandb.log, row)
        return jax.random.split(key)[0], config["HIDDEN_SIZE"]

    return lambda key: jax.lax.scan(one_round, key, jnp.arange(rounds))


@hydra.main(version_base=None)
def main(config):
    raise AssertionError("its command line is not run")
"""


@pytest.fixture
def checkout(tmp_path):
    """A folder that has what is used of JaxMARL's: 5 tests in a run of 20 rounds of 50 steps."""
    folder = tmp_path / "checkout" / "baselines" / "QLearning"
    (folder / "config" / "alg").mkdir(parents=True)
    (folder / "qmix_rnn.py").write_text(STAND_IN)
    (folder / "config" / "alg" / "small.yaml").write_text(
        "{TOTAL_TIMESTEPS: 1e7, NUM_STEPS: 10, NUM_ENVS: 5, BUFFER_BATCH_SIZE: 4, "
        "HIDDEN_SIZE: 512, TEST_INTERVAL: 0.2}"
    )
    return tmp_path / "checkout"


def test_against_jaxmarl(checkout, tmp_path, capsys):
    against = load("against_jaxmarl")
    scores = "test_score", "return"
    packaged = tmp_path / "packaged.yaml"
    packaged.write_text(yaml.safe_dump(SMALL | {"training": {"updates_per_evaluation": 8}}))
    task = against.Task("small.yaml", {"MAP_NAME": "3m"}, SMALL, str(packaged), scores)
    arguments = ["--jaxmarl", str(checkout), "--seeds", "2", "--rounds", "2", "--turns", "1"]
    against.main([*arguments, "--out", str(tmp_path / "times.json")], {"small": task})
    assert "jaxmarl ms" in " ".join(capsys.readouterr().out.split())
    (row,) = json.loads((tmp_path / "times.json").read_text())["rows"]
    assert row["seeds"] == 2
    assert row["ours_ms"] > 0
    assert row["ratio"] == pytest.approx(row["ours_ms"] / row["jaxmarl_ms"])
    arguments = ["--jaxmarl", str(checkout), "--seeds", "1", "--learn", "1000"]
    against.main([*arguments, "--out", str(tmp_path / "curves.json")], {"small": task})
    theirs, ours = json.loads((tmp_path / "curves.json").read_text())["curves"]
    assert [theirs["of"], ours["of"]] == ["jaxmarl", "ours"]
    assert [point[1:] for point in theirs["points"]] == [[200 * i, 2.0 * i] for i in range(1, 6)]
    for curve in (theirs, ours):
        seconds, steps, _ = zip(*curve["points"], strict=True)
        assert min(seconds) > 0
        assert list(seconds) == sorted(seconds)
        assert steps[-1] >= 1000
    (row,) = json.loads((tmp_path / "curves.json").read_text())["rows"]
    assert row["jaxmarl_score"] == 8.0  # of 6, 8 and 10
    with pytest.raises(SystemExit, match="2"):
        against.main(["--jaxmarl", str(tmp_path)], {"small": task})
    assert "allowed: a clone of JaxMARL" in capsys.readouterr().err
    for rate in ("0", "1", "nan"):
        with pytest.raises(SystemExit, match="2"):
            against.main([*arguments, "--rate", rate], {"small": task})
        assert f"--rate is {rate}; allowed: between 0 and 1" in capsys.readouterr().err


def test_scores_are_compared_at_the_end_and_when_the_faster_was_done():
    against = load("against_jaxmarl")
    slow = [against.Point(10.0 * i, 100 * i, float(i)) for i in range(1, 6)]
    fast = [against.Point(7.0 * i, 100 * i, float(2 * i)) for i in range(1, 6)]
    assert against.compare(slow, fast) == {
        "jaxmarl_s": 50,
        "jaxmarl_score": 4,  # of 3, 4 and 5
        "jaxmarl_by_then": 2,  # after 35 s: of 1, 2 and 3
        "ours_s": 35,
        "ours_score": 8,
        "ours_by_then": 8,
    }
    late = [against.Point(60.0, 100, 3.0)]
    assert against.compare(late, fast)["jaxmarl_by_then"] == 3


def test_tasks_are_of_the_sizes_of_jaxmarl_s(checkout):
    """What is changed in its configuration, and what ours has in place of it."""
    against = load("against_jaxmarl")
    baseline = load("jaxmarl_baseline").load_baseline(checkout)
    task = against.TASKS["smax_3m"]._replace(file="small.yaml")
    theirs, ours = baseline.config(task, TOTAL_TIMESTEPS=50), against.our_config(task)
    assert theirs["MAP_NAME"] == "3m"
    assert theirs["TOTAL_TIMESTEPS"] == 50
    assert "LR" not in baseline.config(task.at_rate(None))
    assert baseline.config(task.at_rate(5e-4)) == baseline.config(task) | {"LR": 5e-4}
    assert theirs["HIDDEN_SIZE"] == ours.network.hidden_size
    assert theirs["MIXER_EMBEDDING_DIM"] == ours.network.mixer_embed_size
    assert theirs["MIXER_HYPERNET_HIDDEN_DIM"] == ours.network.mixer_hypernet_size
    for each in against.TASKS.values():
        env = make_env(against.our_config(each))
        make_trainer(against.our_config(each), env)
        learnt = against.learnt_config(each, 50)
        assert learnt.network.hidden_size == theirs["HIDDEN_SIZE"]
        assert not learnt.network.layer_norm
        assert learnt.training.total_env_steps == 50
        _, first = jax.eval_shape(env.reset, jax.random.key(0))
        assert each.scores[1] in {"return", *(f"extras/{name}" for name in first.extras)}
