"""What may befall the folder of a run or sweep: files cut, emptied, flipped, swapped or gone."""

import random
import shutil
from pathlib import Path
from typing import NamedTuple

from maven_jax.experiments.folder import checkpoint_folders

TEXTS = ("config.yaml", "run.json", "metrics.csv")
"""Files whose damage may leave another valid file."""


class Example(NamedTuple):
    """A sound folder to damage."""

    path: Path
    whole: Path
    """The same one, had it never stopped."""
    longer: tuple[str, ...] = ()
    """Options by which `resume` comes to that."""

    def runs(self) -> list[Path]:
        """The folders of its runs, one or those of a sweep."""
        return sorted(file.parent for file in self.path.rglob("run.json"))


def damage(draw: random.Random, example: Example, copy: Path, examples: list[Example]) -> str:
    """Damages the copy of an example; the file or folder that is damaged, and how."""
    run_folder = copy / draw.choice(example.runs()).relative_to(example.path)
    donor = draw.choice([path for other in examples for path in other.runs()])
    checkpoints = checkpoint_folders(run_folder)
    kind = draw.choices(("checkpoints", "weights", *TEXTS), (9, 4, 2, 2, 2))[0]
    if not (run_folder / kind).exists() or (kind == "checkpoints" and not checkpoints):
        kind = "weights"
    if kind == "checkpoints" and draw.random() < 0.25:
        target = draw.choice(checkpoints)
        own = example.path.absolute() / target.relative_to(copy)
        theirs = [path for path in checkpoint_folders(donor) if path != own]
        shutil.rmtree(target)
        if not theirs:
            return f"{target.relative_to(copy)} deleted"
        source = draw.choice(theirs)
        shutil.copytree(source, target)
        return f"{target.relative_to(copy)} is {source.relative_to(donor.parent)}"
    if (copy / "sweep.json").exists() and draw.random() < 0.1:
        file = copy / "sweep.json"
    elif kind in TEXTS:
        file = run_folder / kind
    else:
        below = draw.choice(checkpoints) if kind == "checkpoints" else run_folder / kind
        file = draw.choice(sorted(p for p in below.rglob("*") if p.is_file()))
    theirs = [p for p in (donor / kind, *(donor / kind).rglob("*")) if p.is_file()]
    namesakes = [p for p in theirs if p.name == file.name] or theirs
    how = draw.choice(("truncated", "flipped", "emptied", "deleted", "swapped", "random"))
    data = file.read_bytes()
    if how == "deleted":
        file.unlink()
    elif how == "swapped" and namesakes:
        source = draw.choice(namesakes)
        file.write_bytes(source.read_bytes())
        how = f"is {source.relative_to(donor.parent)}"
    else:
        file.write_bytes(damaged(draw, how, data))
    return f"{file.relative_to(copy)} {how}"


def damaged(draw: random.Random, how: str, data: bytes) -> bytes:
    """The bytes of a file as they might be found."""
    if how == "truncated":
        return data[: draw.randrange(len(data))] if data else b""
    if how == "emptied":
        return b""
    if how == "flipped" and data:
        changed = bytearray(data)
        for _ in range(draw.randint(1, 8)):
            changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    return draw.randbytes(draw.randint(1, 2 * len(data) + 1))
