"""What an accelerator would be given to do: QMIX and MAVEN compiled for an H100 and for four TPUs.

    python benchmarks/launches.py --seeds 20 1000 --out launches.json
    python benchmarks/launches.py --study ten_step --targets h100 --out launches_forms.json

Nothing runs and no device is needed, but for their compilers: `make test-accelerators` installs
them. Printed are the kernels that one update launches, by part (for the H100; a TPU runs a program
whole), collectives in the program, and the memory of a device that it would take.
"""

import argparse
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from record import add_out, write_record
from rich.console import Console
from rich.table import Table

from maven_jax import Config, load_config, make_trainer
from maven_jax.environments.registry import make_env
from maven_jax.errors import ConfigError
from maven_jax.experiments.sweep import LANES, padded, seed_keys, spread, update_lanes
from maven_jax.studies.study import load_study
from maven_jax.training.budget import updates_per_chunk
from maven_jax.types import MarlEnv

H100 = Path(__file__).parent / "targets" / "h100_sxm.txtpb"
COLLECTIVE = re.compile(
    r"(all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter)"
    r"(-start)?"
)
NO_LAUNCH = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "copy-done", "async-done", "opt-barrier", "add-dependency"),
}
"""Operations that a GPU launches nothing for; loops and calls are counted by what is in them."""
UNCOUNTED = {"conditional", "async-start"}
"""Operations that launch what their computations hold, which of them is not known."""
PARTS = {
    "evaluation": "evaluation",
    "acting": "acting",
    "storing": "storing",
    "sampling": "sampling",
    "latent steps": "latent_steps",
    "optimizer": "optimizer",
    "backward": "transpose(jvp(loss",
    "forward": "loss",
}
"""What the name of an operation holds that belongs to a part; the first that fits."""
OTHER = "other"


def h100s() -> Mesh:
    """One H100."""
    devices = topologies.get_topology_desc(
        platform="cuda", topology_name="", topology="1x1x1", target_config=H100.read_text()
    ).devices
    return Mesh(np.array(devices[:1]), ("lanes",))


def tpus() -> Mesh:
    """Four TPUs of the fifth generation, on one board."""
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # there is no TPU host to ask
    devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
    return Mesh(np.array(devices), ("lanes",))


TARGETS: dict[str, Callable[[], Mesh]] = {"h100": h100s, "tpu_v5e_2x2": tpus}


def compile_chunk(config: Config, env: MarlEnv, num_seeds: int, mesh: Mesh) -> Any:
    """A chunk of every seed's training, compiled for the devices of a mesh, which share evenly."""
    trainer = make_trainer(config, env)
    num_lanes = padded(num_seeds, mesh)
    lanes = seed_keys(0, num_lanes), spread(config.hyperparameters, num_lanes)
    state = jax.eval_shape(jax.vmap(trainer.init), *lanes)
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, LANES)),
        (state, lanes[1]),
    )
    jitted = jax.jit(update_lanes(trainer.chunk, mesh, num_lanes), donate_argnums=0)
    return jitted.lower(*arguments).compile()


class Operation(NamedTuple):
    """One line of a program in XLA's text form."""

    opcode: str
    name: str
    """That of what it was compiled from; empty where XLA made it itself."""
    called: str | None
    """The computation that it runs: of a loop its body, of a call what is called."""
    times: int | None
    """How often it runs that; None where the program does not say."""
    line: str
    """Where it stands, for messages."""


OPERATION = re.compile(r"\s+(?:ROOT )?%?\S+ = (?:\(.*?\)|\S+) ([\w-]+)\(")


def read_program(text: str) -> dict[str, list[Operation]]:
    """Every computation's operations; the entry's is called `ENTRY`."""
    program: dict[str, list[Operation]] = {}
    operations: list[Operation] = []
    for line in text.splitlines():
        if line.startswith(("%", "ENTRY")) and line.endswith("{"):
            name = "ENTRY" if line.startswith("ENTRY") else line.split()[0].lstrip("%")
            operations = program.setdefault(name, [])
        elif found := OPERATION.match(line):
            operations.append(_read_operation(found[1], line))
    return program


def _read_operation(opcode: str, line: str) -> Operation:
    def of(pattern: str) -> str | None:
        found = re.search(pattern, line)
        return found[1] if found else None

    line = line.strip()
    name = of(r'op_name="([^"]*)"') or ""
    if opcode == "while":
        rounds = of(r'"known_trip_count":\{"n":"(\d+)"\}')
        times = None if rounds is None else int(rounds)
        return Operation(opcode, name, of(r"body=%?([\w.-]+)"), times, line)
    called = of(r"to_apply=%?([\w.-]+)") if opcode == "call" else None
    return Operation(opcode, name, called, 1, line)


def count_launches(text: str, most_rounds: int | None = None) -> Counter[str]:
    """Kernels that a compiled program launches, by part.

    Args:
        text: the program, in XLA's text form.
        most_rounds: how often a loop runs that ends by what it computes, such as test episodes'.

    Raises:
        ValueError: such a loop where `most_rounds` is not given, a branch, or a computation that
            runs beside others: what these launch cannot be counted.
    """
    program = read_program(text)

    def launched(computation: str, times: int, around: str) -> Iterator[tuple[str, int]]:
        for operation in program[computation]:
            part = part_of(operation.name, around)
            if operation.opcode in UNCOUNTED:
                raise ValueError(
                    f"cannot count what {operation.opcode} launches: {operation.line[:80]}"
                )
            rounds = most_rounds if operation.times is None else operation.times
            if rounds is None:
                raise ValueError(f"a loop without a known number of rounds: {operation.line[:80]}")
            if operation.called is not None:
                yield from launched(operation.called, times * rounds, part)
            elif operation.opcode not in NO_LAUNCH:
                yield part, times

    counts: Counter[str] = Counter()
    for part, times in launched("ENTRY", 1, OTHER):
        counts[part] += times
    return counts


def count_collectives(text: str) -> int:
    """Operations of a compiled program, wherever they stand, by which devices communicate."""
    operations = chain.from_iterable(read_program(text).values())
    return sum(COLLECTIVE.fullmatch(operation.opcode) is not None for operation in operations)


def part_of(name: str, around: str) -> str:
    """The part that an operation belongs to by its name, else that of the loop around it."""
    return next((part for part, holds in PARTS.items() if holds in name), around)


def measure(config: Config, env: MarlEnv, num_seeds: int, target: str) -> dict[str, Any]:
    """One row: what the chunk of `num_seeds` seeds would do on a target."""
    compiled = compile_chunk(config, env, num_seeds, TARGETS[target]())
    text, memory = compiled.as_text(), compiled.memory_analysis()
    row: dict[str, Any] = {
        "target": target,
        "seeds": num_seeds,
        "collectives": count_collectives(text),
        "mib": (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**20,
    }
    if target == "h100":
        updates = updates_per_chunk(config.training)
        parts = count_launches(text, env.time_limit)
        row["launches_per_evaluation"] = parts.pop("evaluation", 0)
        row["launches_per_update"] = sum(parts.values()) / updates
        row["parts"] = {part: parts[part] / updates for part in (*PARTS, OTHER) if part in parts}
    return row


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Programs, one a row, then the launches of an update, a part a row."""
    table = Table("config", "seeds", "target", "collectives", "MiB")
    for row in rows:
        known = (str(row[name]) for name in ("config", "seeds", "target", "collectives"))
        table.add_row(*known, f"{row['mib']:.0f}")
    Console().print(table)
    counted = [row for row in rows if "parts" in row]
    if not counted:
        return
    table = Table("launches an update", *(f"{row['config']}, {row['seeds']}" for row in counted))
    for part in (*PARTS, OTHER):
        if any(part in row["parts"] for row in counted):
            table.add_row(part, *(f"{row['parts'].get(part, 0):.0f}" for row in counted))
    table.add_row("together", *(f"{row['launches_per_update']:.0f}" for row in counted))
    each = (str(row["launches_per_evaluation"]) for row in counted)
    table.add_row("and an evaluation", *each)
    Console().print(table)


def read_configs(names: list[str], study: str | None) -> dict[str, Config]:
    """Configurations by their names, or those of a study's runs."""
    if study is None:
        return {name: load_config(name) for name in names}
    return {name: run.config for name, run in load_study(study).runs.items()}


def main(argv: list[str] | None = None, configs: dict[str, Config] | None = None) -> None:
    """Compiles, prints and, if asked to, writes a record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[20])
    parser.add_argument("--configs", nargs="+", default=["qmix", "maven"], help="names or files")
    parser.add_argument("--study", help="name or file: the configurations of its runs instead")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=[*TARGETS])
    add_out(parser)
    arguments = parser.parse_args(argv)
    if min(arguments.seeds) < 1:
        parser.error("--seeds; allowed: whole numbers of at least 1")
    try:
        configs = configs or read_configs(arguments.configs, arguments.study)
    except ConfigError as error:
        parser.error(str(error))
    rows = []
    for name, config in configs.items():
        for num_seeds, target in product(arguments.seeds, arguments.targets):
            row = measure(config, make_env(config), num_seeds, target)
            rows.append({"config": name} | row)
            print(rows[-1], flush=True)
            write_record(arguments.out, rows=rows)
    print_tables(rows)


if __name__ == "__main__":
    main()
