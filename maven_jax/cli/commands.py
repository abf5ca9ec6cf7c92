"""The commands of `maven-jax`: a dataclass of arguments and a function for each."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console

from maven_jax.algorithms import ALGORITHMS, make_algorithm
from maven_jax.cli import smoke
from maven_jax.config import (
    Config,
    ConfigError,
    check,
    load_config,
    unknown,
)
from maven_jax.environments import complete, make_env
from maven_jax.envs import MatrixGame, MStepMatrixGame
from maven_jax.envs.matrix_game import PAYOFFS
from maven_jax.evaluation import latent_behaviour
from maven_jax.pymarl.files import read_folder, write_run
from maven_jax.reports.marl_eval import marl_eval_data
from maven_jax.reports.plots import (
    and_more,
    check_picture,
    count_of,
    draw_behaviour,
    draw_curves,
    draw_figure3,
)
from maven_jax.reports.render import check_gif, record_episode, write_gif
from maven_jax.reports.tables import (
    evaluation_table,
    figure3_data,
    figure3_summary,
    figure3_table,
    last_evaluation,
    points_table,
    study_table,
)
from maven_jax.rollout import env_spec
from maven_jax.runs.checkpoint import Checkpointing, newest_weights
from maven_jax.runs.grid import (
    MAX_LANES,
    Lanes,
    Part,
    expand,
    lanes_from_columns,
    make_lanes,
    parse_grid,
)
from maven_jax.runs.pieces import evaluate_lanes
from maven_jax.runs.processes import is_writer
from maven_jax.runs.progress import plain_console
from maven_jax.runs.results import (
    Run,
    fit_weights,
    load_run,
    load_runs,
    load_setup,
    points_of,
    refuse_existing,
    replace_text,
    sweep_parts,
)
from maven_jax.runs.runner import (
    Options,
    Origin,
    check_run,
    continue_run,
    continue_sweep,
    extend,
    train_run,
    train_sweep,
)
from maven_jax.runs.sweep import lane_keys, spread
from maven_jax.studies.matrix_games import study
from maven_jax.train import make_trainer
from maven_jax.types import MarlEnv, NetworkParams, Params
from maven_jax.unread import remarks

FIGURE_3 = ("maven", "qmix", "maven_team")
"""The packaged configurations whose curves the figure shows."""


@dataclass(frozen=True)
class Experiment:
    """What `train` and `sweep` are told."""

    config_source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CONFIG")]
    """A YAML file, or the name of a packaged configuration."""
    out: Path | None = None
    """Folder to make for the run; runs/CONFIG by default."""
    seed: int = 0
    """The first seed."""
    seeds: int = 8
    """How many seeds, counted up from the first."""
    tensorboard: bool = True
    """Write events for TensorBoard."""
    checkpoint: Checkpointing = field(default_factory=Checkpointing)
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


@dataclass(frozen=True)
class Train(Experiment):
    """Train one configuration over many seeds, in one compiled program."""

    init_from: Path | None = None
    """Folder of a run whose weights to start from; its lanes and this run's are as many."""
    lane: int | None = None
    """The one lane of --init-from, counted from 0, that every seed starts from."""


@dataclass(frozen=True)
class Sweep(Experiment):
    """Train a grid of values times many seeds, in as few compiled programs as it takes."""

    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """FIELD=VALUE,VALUE,...: once for each field. Hyperparameters share one program, any other
    field is compiled once for each value."""
    group_size: int | None = None
    """Runs that are in memory at once; by default all."""


@dataclass(frozen=True)
class Longer:
    """What of `training` a run can go on with another value of."""

    total_env_steps: int | None = None
    """Environment steps of each seed, more than there were; goes on with a finished run too, if it
    was trained with --checkpoint.keep-final."""


@dataclass(frozen=True)
class Resume:
    """Go on with a run or sweep that was interrupted or killed, from its last checkpoint."""

    run: tyro.conf.Positional[Path]
    """Folder of a run or of a sweep."""
    training: Longer = field(default_factory=Longer)
    tensorboard: bool = True
    """Write events for TensorBoard."""
    checkpoint: Checkpointing = field(default_factory=Checkpointing)


@dataclass(frozen=True)
class Figure3:
    """Train MAVEN, QMIX and MAVEN team on the matrix game: Figure 3(b) of the MAVEN paper."""

    out: Path = Path("runs/figure3")
    """Folder to make: one run for each algorithm, the picture and its data."""
    seed: int = 0
    """The first seed."""
    seeds: int = 20
    """Seeds of each algorithm."""
    steps: int = 100_000
    """Environment steps of each seed."""
    m: int = 10
    """Length of the game."""
    tensorboard: bool = True
    """Write events for TensorBoard."""
    checkpoint: Checkpointing = field(default_factory=Checkpointing)


@dataclass(frozen=True)
class Evaluate:
    """Play greedy episodes with a run's final weights and print what each seed reaches."""

    run: tyro.conf.Positional[Path]
    """Folder of a run."""
    episodes: int = 256
    """Test episodes with z from the latent policy, for each seed."""
    seed: int = 0
    """Seed of the test episodes."""
    lane: int | None = None
    """Which of the run's lanes, counted from 0, --render and --behaviour are of; else the first."""
    render: Path | None = None
    """GIF to write of one greedy episode."""
    behaviour: Path | None = None
    """Picture to write of what each z does: its return, and the agents' actions."""


@dataclass(frozen=True)
class Plot:
    """Draw one metric of several runs: median and quartiles over seeds."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs."""
    out: Path = Path("plot.png")
    """Picture to write; it must not exist."""
    metric: str = "return"
    """A column of metrics.csv."""


@dataclass(frozen=True)
class Tabulate:
    """Print what runs and sweeps end at, a row for each experiment: a configuration, all seeds."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs or sweeps."""
    metric: str = "return"
    """A column of metrics.csv."""


@dataclass(frozen=True)
class Export:
    """Write curves of runs and sweeps as JSON for marl-eval, to stand beside other libraries."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs or sweeps."""
    out: Path = Path("marl_eval.json")
    """File to write; it must not exist."""
    evaluations: int = 50
    """Points of each curve."""


@dataclass(frozen=True)
class MatrixGames:
    """Learn one-step games with every mixer, under uniform and epsilon-greedy behaviour."""

    games: tuple[str, ...] = tuple(PAYOFFS)
    """Names of games, all of one shape."""
    algorithms: tuple[str, ...] = ("iql", "vdn", "qmix", "qmix_unconstrained", "qtran")
    """Names of algorithms without a latent."""
    seeds: int = 10
    """Seeds of each."""
    steps: int = 4000
    """Gradient steps of each."""


@dataclass(frozen=True)
class Convert:
    """Make a run of weights that the published PyTorch code saved, and evaluate it."""

    folder: tyro.conf.Positional[Path]
    """Folder of agent.th, mixer.th, ez_bandit_policy.th or the like; or of .npz files so named."""
    config: str
    """The run's configuration: a YAML file, or the name of a packaged one."""
    out: Path
    """Folder to make for the run."""
    fresh_discriminator: bool = False
    """Draw the discriminator's weights, which the published code does not save."""


def train(command: Train, console: Console) -> None:
    """`maven-jax train CONFIG`."""
    out = command.out or Path("runs") / Path(command.config_source).stem
    config, seeds = smoke.cut_config(command.config), _seeds(command)
    lanes = make_lanes(config.hyperparameters, seeds[: smoke.cut(len(seeds), smoke.SEEDS)])
    origin = _origin(command, len(lanes.seeds))
    env, options = make_env(config), _options(command, _remarks(command, [command.config]))
    run = train_run(config, env, out, lanes, options, origin)
    _print_end([run], out, console)


def _origin(command: Train, num_lanes: int) -> Origin | None:
    """The weights of `--init-from`, a lane for each of this run's."""
    if command.init_from is None:
        if command.lane is not None:
            raise ConfigError(f"lane is {command.lane}; allowed: none without --init-from")
        return None
    source = load_run(command.init_from)
    last, lane = source.num_lanes - 1, command.lane
    if lane is None:
        check(
            source.num_lanes == num_lanes,
            "seeds",
            num_lanes,
            f"{source.num_lanes}, the lanes of '{source.path}', or --lane, a whole number from 0 "
            f"to {last}, for all seeds",
        )
    else:
        check(0 <= lane <= last, "lane", lane, f"a whole number from 0 to {last}")
    lanes = range(num_lanes) if lane is None else [lane] * num_lanes
    arrays = {name: x[list(lanes)] for name, x in newest_weights(source, _say).items()}
    columns = {name: [column[i] for i in lanes] for name, column in source.lanes.items()}
    record = {"run": str(source.path), "lanes": columns, "num_evaluations": source.num_evaluations}
    return Origin(arrays, record)


def _say(line: str) -> None:
    """A line beside the results, on standard error."""
    if is_writer():
        console = plain_console(stderr=True)
        console.print(f"maven-jax: {line}", highlight=False, soft_wrap=True)


def sweep(command: Sweep, console: Console) -> None:
    """`maven-jax sweep CONFIG --grid FIELD=VALUE,VALUE`."""
    out = command.out or Path("runs") / f"{Path(command.config_source).stem}-sweep"
    grid = parse_grid(command.grid, command.config)
    seeds = _seeds(command)
    parts = expand(command.config, grid, seeds, command.group_size)
    options = _options(command, _remarks(command, [_with_rewards(part) for part in parts]))
    if smoke.is_on():
        parts = expand(command.config, grid, seeds[: smoke.SEEDS], command.group_size)
        parts = [part._replace(config=smoke.cut_config(part.config, grid)) for part in parts]
    if len(parts) == 1:
        (part,) = parts
        runs = [train_run(part.config, make_env(part.config), out, part.lanes, options)]
    else:
        runs = train_sweep(parts, make_env, out, options)
    _print_end(runs, out, console)


def resume(command: Resume, console: Console) -> None:
    """`maven-jax resume RUN`."""
    steps, is_sweep = command.training.total_env_steps, (command.run / "sweep.json").is_file()
    if steps is not None and smoke.is_on():
        folders = sweep_parts(command.run) if is_sweep else [command.run]
        had = max(load_setup(folder)[0].training.total_env_steps for folder in folders)
        steps = smoke.cut_steps(steps, had + 1) if steps > had else steps  # the latter is refused
    if steps is not None:
        extend(command.run, steps, make_env)
    if is_sweep:
        runs = continue_sweep(command.run, make_env, _options(command))
    else:
        env = make_env(load_setup(command.run)[0])
        runs = [continue_run(command.run, env, _options(command))]
    _print_end(runs, command.run, console)
    if steps != command.training.total_env_steps:
        console.print(smoke.SAID, highlight=False, soft_wrap=True)


def _seeds(command: Experiment | Figure3) -> range:
    check(
        1 <= command.seeds <= MAX_LANES,
        "seeds",
        command.seeds,
        f"a whole number from 1 to {MAX_LANES}",
    )
    check(
        0 <= command.seed < 2**31 - command.seeds,
        "seed",
        command.seed,
        "a whole number from 0 to 2**31 - seeds",
    )
    return range(command.seed, command.seed + command.seeds)


def _options(command: Experiment | Resume | Figure3, said: Sequence[str] = ()) -> Options:
    console = plain_console(stderr=True, quiet=not is_writer())
    return Options(command.tensorboard, command.checkpoint, console, said)


def _remarks(command: Experiment, configs: Sequence[Config]) -> list[str]:
    """What no point of a sweep reads of that which the user has set; see `unread`."""
    source = command.config_source
    base = Config() if Path(source).is_file() else load_config(source)
    first, *others = [remarks(config, base) for config in configs]
    return [line for line in first if all(line in other for other in others)]


def _with_rewards(part: Part) -> Config:
    """A part's configuration, with the largest weight that its lanes give to r_aux."""
    largest = float(np.max(part.lanes.hyperparameters.intrinsic_weight))
    hyperparameters = part.config.hyperparameters._replace(intrinsic_weight=largest)
    return dataclasses.replace(part.config, hyperparameters=hyperparameters)


def _print_end(runs: list[Run], out: Path, console: Console) -> None:
    """What training has come to: a sentence of a plain run, a table of a sweep."""
    points = points_of(runs)
    if len(points) > 1 or not points[0][1].metrics["seed"].size:
        console.print(points_table(points, "return"))
        console.print(f"results in {out}/", highlight=False, soft_wrap=True)
        return
    ((_, run),) = points
    low, median, high = np.percentile(run.final("return"), [25, 50, 75])
    console.print(
        f"return, {last_evaluation([run])}: median {median:.2f}, quartiles {low:.2f} to "
        f"{high:.2f}, {count_of(run.num_lanes, 'seed')}; results in {out}/",
        highlight=False,
        soft_wrap=True,
    )


def figure3(command: Figure3, console: Console) -> None:
    """`maven-jax figure3`."""
    refuse_existing("output folder", command.out)
    seeds = _seeds(command)
    seeds = seeds[: smoke.cut(len(seeds), smoke.SEEDS)]
    configs = {name: _figure3_config(name, command, len(seeds)) for name in FIGURE_3}
    best = MStepMatrixGame(command.m).optimal_return
    runs = {
        name: train_run(
            config,
            make_env(config),
            command.out / name,
            make_lanes(config.hyperparameters, seeds),
            _options(command),
        )
        for name, config in configs.items()
    }
    picture = command.out / "figure3.png"
    draw_figure3(runs, picture)
    data = command.out / "figure3.csv"
    data.write_text(figure3_data(runs))
    console.print(figure3_table(runs))
    console.print(figure3_summary(runs, best), highlight=False, soft_wrap=True)
    console.print(f"picture: {picture}\ndata:    {data}", highlight=False, soft_wrap=True)


def evaluate_run(command: Evaluate, console: Console) -> None:
    """`maven-jax evaluate RUN`."""
    episodes, seed = command.episodes, command.seed
    check(1 <= episodes <= 10**5, "episodes", episodes, "a whole number from 1 to 100000")
    check(0 <= seed < 2**31, "seed", seed, "a whole number from 0 to 2**31 - 1")
    run = load_run(command.run)
    lane = command.lane or 0
    check(0 <= lane < run.num_lanes, "lane", lane, f"a whole number from 0 to {run.num_lanes - 1}")
    if command.lane is not None and command.render is None and command.behaviour is None:
        raise ConfigError(f"lane is {command.lane}; allowed: none without --render or --behaviour")
    episodes = smoke.cut(episodes, smoke.SIZES["evaluation.episodes"])
    evaluation = dataclasses.replace(run.config.evaluation, episodes=episodes)
    config = dataclasses.replace(run.config, evaluation=evaluation)
    env = make_env(config)
    algorithm = make_algorithm(config, env_spec(env))
    if command.render is not None:
        refuse_existing("GIF", command.render)
        check_gif(env, command.render)
    if command.behaviour is not None:
        refuse_existing("picture", command.behaviour)
        check_picture("behaviour", command.behaviour)
        if not algorithm.latent.size:
            raise ConfigError(
                f"behaviour is of what each z does, and {config.algorithm} has no z; allowed: a "
                "run of MAVEN"
            )
    trainer = make_trainer(config, env)
    lanes = lanes_from_columns(run.lanes, config.hyperparameters)
    expected = jax.eval_shape(
        jax.vmap(trainer.init),
        jax.eval_shape(lambda: lane_keys(lanes.seeds)),
        spread(lanes.hyperparameters, run.num_lanes),
    )
    arrays, what = (
        newest_weights(run, _say),
        f"weights of run '{run.path}' do not fit its config.yaml",
    )
    params, latent_params = fit_weights(arrays, expected.params, expected.latent_params, what)
    metrics = _test(params, latent_params, seed, lanes, config, env)
    console.print(evaluation_table(run, metrics, episodes))
    key = jax.random.key(seed)
    params, latent_params = jax.tree.map(lambda x: x[lane], (params, latent_params))
    if command.render is not None:
        write_gif(env, record_episode(env, algorithm, params, latent_params, key), command.render)
        console.print(f"GIF: {command.render}", highlight=False, soft_wrap=True)
    if command.behaviour is not None:
        test = partial(latent_behaviour, env=env, algorithm=algorithm, config=config, episodes=64)
        seen = jax.device_get(jax.jit(test)(params, latent_params, key))
        title = f"greedy episodes of each z: {command.run}, lane {lane}"
        draw_behaviour(seen, command.behaviour, title)
        console.print(f"picture: {command.behaviour}", highlight=False, soft_wrap=True)


def plot(command: Plot, console: Console) -> None:
    """`maven-jax plot RUN...`."""
    if not command.runs:
        raise ConfigError("no run given; allowed: one or more folders of runs")
    refuse_existing("picture", command.out)
    check_picture("out", command.out)
    runs = [run for path in command.runs for run in load_runs(path, _say)]
    draw_curves(runs, command.out, command.metric)
    console.print(f"picture: {command.out}", highlight=False, soft_wrap=True)


def tabulate(command: Tabulate, console: Console) -> None:
    """`maven-jax table RUN...`."""
    if not command.runs:
        raise ConfigError("no run given; allowed: one or more folders of runs")
    runs = [(path, run) for path in command.runs for run in load_runs(path, _say)]
    given = {run.path: path for path, run in runs}
    points = points_of(run for _, run in runs)
    if len(command.runs) > 1:
        points = [
            ({"run": and_more(list(dict.fromkeys(given[x] for x in run.folders)))} | own, run)
            for own, run in points
        ]
    console.print(points_table(points, command.metric))


def export(command: Export, console: Console) -> None:
    """`maven-jax export RUN...`."""
    if not command.runs:
        raise ConfigError("no run given; allowed: one or more folders of runs")
    refuse_existing("file", command.out)
    points = points_of(run for path in command.runs for run in load_runs(path, _say))
    data = marl_eval_data(points, command.evaluations)
    command.out.parent.mkdir(parents=True, exist_ok=True)
    replace_text(command.out, json.dumps(data, indent=1) + "\n")
    end = last_evaluation(run for _, run in points)
    console.print(
        f"marl-eval data: {command.out}; absolute_metrics: {end}", highlight=False, soft_wrap=True
    )


def convert(command: Convert, console: Console) -> None:
    """`maven-jax convert FOLDER --config CONFIG --out RUN`."""
    config = smoke.cut_test(complete(load_config(command.config)))
    env = make_env(config)
    make_trainer(config, env)  # checks what `evaluate` will
    refuse_existing("output folder", command.out)
    weights = read_folder(
        command.folder, config, env_spec(env), fresh_discriminator=command.fresh_discriminator
    )
    params, latent_params = jax.tree.map(lambda x: np.asarray(x)[None], weights)
    lanes = make_lanes(config.hyperparameters, [0])
    metrics = _test(params, latent_params, 0, lanes, config, env)
    write_run(command.out, config, command.folder, params, latent_params, metrics)
    console.print(evaluation_table(load_run(command.out), metrics, config.evaluation.episodes))
    if command.fresh_discriminator and "mi_bound_test" in metrics:
        console.print("J_V is of an untrained discriminator: it says nothing.")
    console.print(f"run: {command.out}/", highlight=False, soft_wrap=True)


def matrix_games(command: MatrixGames, console: Console) -> None:
    """`maven-jax matrix-games`."""
    check(1 <= command.seeds <= 10**4, "seeds", command.seeds, "a whole number from 1 to 10000")
    check(1 <= command.steps <= 10**6, "steps", command.steps, "a whole number from 1 to 1000000")
    without_latent = [name for name, row in ALGORITHMS.items() if not row.has_latent]
    for kind, given, known in (
        ("game", command.games, list(PAYOFFS)),
        ("algorithm", command.algorithms, without_latent),
    ):
        check(len(given) > 0, f"{kind}s", given, f"one or more of {', '.join(known)}")
        for name in given:
            if name not in known:
                raise unknown(kind, name, known)
    seeds, steps = smoke.cut(command.seeds, smoke.SEEDS), smoke.cut_steps(command.steps, 1)
    games = {name: np.array(PAYOFFS[name], np.float32) for name in command.games}
    tables, env = np.stack(list(games.values())), MatrixGame(command.games[0])
    for algorithm in command.algorithms:
        learnt = study(algorithm, env, tables, seeds, steps)
        for name, values, greedy in zip(command.games, *learnt, strict=True):
            console.print(study_table(f"{algorithm} on {name}", games[name], values, greedy))


def _figure3_config(name: str, command: Figure3, num_seeds: int) -> Config:
    config = complete(load_config(name))
    config = dataclasses.replace(
        config,
        env=dataclasses.replace(config.env, options={**config.env.options, "m": command.m}),
        training=dataclasses.replace(config.training, total_env_steps=command.steps),
    )
    config = smoke.cut_config(config)
    check_run(config, make_env(config), num_seeds)  # all, before the first run starts
    return config


def _test(
    params: Params,
    latent_params: NetworkParams,
    seed: int,
    lanes: Lanes,
    config: Config,
    env: MarlEnv,
) -> dict[str, np.ndarray]:
    """`evaluate` of the weights of every lane."""
    algorithm = make_algorithm(config, env_spec(env))
    num_lanes = len(lanes.seeds)
    temperatures = np.asarray(spread(lanes.hyperparameters, num_lanes).temperature)
    keys = jax.random.split(jax.random.key(seed), num_lanes)
    return evaluate_lanes(params, latent_params, keys, temperatures, env, algorithm, config)


COMMANDS: dict[str, tuple[type, Callable[[Any, Console], None]]] = {
    "train": (Train, train),
    "sweep": (Sweep, sweep),
    "resume": (Resume, resume),
    "figure3": (Figure3, figure3),
    "evaluate": (Evaluate, evaluate_run),
    "plot": (Plot, plot),
    "table": (Tabulate, tabulate),
    "export": (Export, export),
    "convert": (Convert, convert),
    "matrix-games": (MatrixGames, matrix_games),
}
