"""What was probably meant by a name that does not exist."""

import difflib
from collections.abc import Sequence

ALIASES: dict[str, Sequence[str]] = {
    "algo": ("algorithm",),
    "alg": ("algorithm",),
    "batch_size_run": ("num_envs",),
    "alpha": ("learning_rate",),
    "buffer_size": ("training.replay_size",),
    "clip": ("max_grad_norm",),
    "discount": ("gamma",),
    "entropy_scaling": ("latent_entropy_weight",),
    "env": ("env.name",),
    "env_id": ("env.name",),
    "env_name": ("env.name",),
    "eps": ("epsilon_finish",),
    "epsilon": ("epsilon_finish",),
    "epsilon_anneal_time": ("epsilon_steps",),
    "grad_norm_clip": ("max_grad_norm",),
    "game": ("env.options.game", "env.name"),
    "lambda": ("mi_weight", "td_lambda"),
    "lambda_mi": ("mi_weight",),
    "map": ("env.options.scenario", "env.name"),
    "map_name": ("env.options.scenario", "env.name"),
    "mi_loss": ("mi_weight",),
    "mi_scaler": ("intrinsic_weight",),
    "mixing_embed_dim": ("mixer_embed_size",),
    "noise_dim": ("latent.size",),
    "num_steps": ("total_env_steps",),
    "optim_alpha": ("rms_decay",),
    "optim_eps": ("rms_epsilon",),
    "output": ("out",),
    "output_dir": ("out",),
    "polyak": ("target_update_rate",),
    "scenario": ("env.options.scenario",),
    "rnn_hidden_dim": ("network.hidden_size",),
    "steps": ("steps", "total_env_steps"),
    "t_max": ("total_env_steps",),
    "tau": ("target_update_rate",),
    "test_interval": ("updates_per_evaluation",),
    "test_nepisode": ("evaluation.episodes",),
    "timesteps": ("total_env_steps",),
    "total_steps": ("total_env_steps",),
    "total_timesteps": ("total_env_steps",),
    "z_size": ("latent.size",),
}
"""Names that other libraries give to fields, and the fields: whole names, or their last parts."""

SECTIONS = ("", "training", "hyperparameters", "network", "env", "env.options")
"""Whose fields are preferred among those that are as near, in this order."""
NEAR = 0.6
"""The least likeness of a name that is suggested, from 0 to 1."""


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that was probably meant; None where none is near.

    Names may have parts with dots, and words with hyphens or underscores. A part may be left out,
    or be another one's; a word may be misspelt, abbreviated, or left out.

    Args:
        name: as it was written.
        known: names that exist, spelt in any of these ways.
    """
    wanted = _plain(name)
    by_name = {_plain(other): other for other in known}
    for alias in ALIASES.get(wanted.rpartition(".")[2], ()):
        for other, written in by_name.items():
            if alias in (other, other.rpartition(".")[2]):
                return written
    order = sorted(by_name, key=_rank)
    best = max(order, key=lambda other: _likeness(wanted, other), default=None)
    return by_name[best] if best is not None and _likeness(wanted, best) >= NEAR else None


def _plain(name: str) -> str:
    return name.strip().lstrip("-").lower().replace("-", "_")


def _rank(name: str) -> int:
    section = name.rpartition(".")[0]
    return SECTIONS.index(section) if section in SECTIONS else len(SECTIONS)


def _likeness(wanted: str, other: str) -> float:
    """How near two names are, from 0 to 1: the last parts decide, the others count little."""
    (section, _, last), (own_section, _, own_last) = wanted.rpartition("."), other.rpartition(".")
    bare = last.removeprefix("num_").removeprefix("n_")
    if wanted.replace(".", "_") == other.replace(".", "_"):
        return 1.0
    near = difflib.SequenceMatcher(None, last, own_last).ratio()
    if own_last in (last, bare):
        near = 1.0
    elif _abbreviates(last, own_last) or _abbreviates(bare, own_last):
        near = max(near, 0.9 + 0.05 * near)
    if not section:
        return 0.98 * near
    return 0.9 * near + 0.1 * difflib.SequenceMatcher(None, section, own_section).ratio()


def _abbreviates(short: str, name: str) -> bool:
    """Whether it is the initials of a name's words, or some of its words in order, or their starts.

    One letter abbreviates nothing.
    """
    words = name.split("_")
    if len(short) < 2:
        return False
    if len(words) > 1 and short == "".join(word[:1] for word in words):
        return True
    rest = iter(words)
    return all(part and any(word.startswith(part) for word in rest) for part in short.split("_"))
