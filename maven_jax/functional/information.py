"""Entropy, divergence and mutual information in nats: of tables, and estimated from counts.

Tables hold probabilities that sum to 1, and 0 log 0 = 0. Gradients take the term of a probability
of 0 as constant: they stay finite, and are right where that probability comes from a softmax.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def _relative(p: Float[Array, "*L"], q: Array | float) -> Float[Array, "*L"]:
    """The terms p log(p / q) of a divergence; constantly 0 where p = 0."""
    p, q = jnp.where(p == 0, 1.0, p), jnp.where(p == 0, 1.0, q)
    return p * (jnp.log(p) - jnp.log(q))


def entropy(p: Float[Array, "*L K"]) -> Float[Array, "*L"]:
    """H(X) = -sum p log p of a distribution along the last axis."""
    return -_relative(p, 1.0).sum(-1)


def joint_entropy(joint: Float[Array, "X Y"]) -> Float[Array, ""]:
    """H(X, Y) = -sum p(x, y) log p(x, y)."""
    return entropy(joint.ravel())


def conditional_entropy(joint: Float[Array, "X Y"]) -> Float[Array, ""]:
    """H(X | Y) = -sum p(x, y) log p(x | y); H(Y | X) is that of `joint.T`."""
    return -_relative(joint, joint.sum(0)).sum()


def kl_divergence(p: Float[Array, "*L K"], q: Float[Array, "*L K"]) -> Float[Array, "*L"]:
    """KL(p || q) = sum p log(p / q) along the last axis; infinite where q = 0 < p.

    Its gradient is not finite there either.
    """
    return _relative(p, q).sum(-1)


def mutual_information(joint: Float[Array, "X Y"]) -> Float[Array, ""]:
    """I(X; Y) = H(X) + H(Y) - H(X, Y)."""
    return entropy(joint.sum(1)) + entropy(joint.sum(0)) - joint_entropy(joint)


def variational_bound(joint: Float[Array, "X Y"], log_q: Float[Array, "X Y"]) -> Float[Array, ""]:
    """J_V = H(X) + E[log q(x | y)] <= I(X; Y), with equality where q is the posterior p(x | y).

    The gap is E_y KL(p(x | y) || q(x | y)) (Barber and Agakov 2003; Mahajan et al. 2019, section
    3.1, for x = z and y = sigma(tau)).

    Args:
        joint: p(x, y).
        log_q: log q(x | y), of which each column is a distribution; -inf is nothing where p = 0.
    """
    log_q = jnp.where((joint == 0) & jnp.isneginf(log_q), 0.0, log_q)
    return entropy(joint.sum(1)) + (joint * log_q).sum()


def count_table(
    x: Int[Array, "E"],
    y: Int[Array, "E"],
    num_x: int,
    num_y: int,
    mask: Bool[Array, "E"] | None = None,
) -> Int[Array, "{num_x} {num_y}"]:
    """How often each pair was seen; pairs that `mask` leaves out or that are out of range are not.

    Args:
        x: values in 0, ..., `num_x - 1`.
        y: values in 0, ..., `num_y - 1`, of the same observations.
        num_x: how many values there are of x.
        num_y: how many values there are of y.
        mask: observations to count; all of them by default.
    """
    if mask is not None:
        x = jnp.where(mask, x, -1)
    return jax.nn.one_hot(x, num_x, dtype=int).T @ jax.nn.one_hot(y, num_y, dtype=int)


def plug_in_entropy(counts: Int[Array, "*L K"]) -> Float[Array, "*L"]:
    """Entropy of the observed frequencies: biased downwards; NaN of no observation."""
    return entropy(counts / counts.sum(-1, keepdims=True))


def miller_madow_entropy(counts: Int[Array, "*L K"]) -> Float[Array, "*L"]:
    """Plug-in entropy + (K - 1) / 2N, with K values seen in N observations (Miller 1955)."""
    num_seen = (counts > 0).sum(-1)
    return plug_in_entropy(counts) + (num_seen - 1) / (2 * counts.sum(-1))


def plug_in_mutual_information(counts: Int[Array, "X Y"]) -> Float[Array, ""]:
    """I(X; Y) of the observed frequencies: biased upwards; NaN of no observation."""
    return mutual_information(counts / counts.sum())


def corrected_mutual_information(counts: Int[Array, "X Y"]) -> Float[Array, ""]:
    """I(X; Y) of Miller-Madow entropies: plug-in - (K_xy - K_x - K_y + 1) / 2N.

    The first term of the bias in 1 / N (Miller 1955; Panzeri and Treves 1996), with the values
    seen, K, in place of the possible ones. It may fall below 0, and corrects little where most
    values were seen once: it is then all but H(X), as the plug-in estimate is.
    """
    of_x, of_y = miller_madow_entropy(counts.sum(1)), miller_madow_entropy(counts.sum(0))
    return of_x + of_y - miller_madow_entropy(counts.ravel())


def same_sequence(actions: Int[Array, "T E N"], mask: Bool[Array, "T E"]) -> Bool[Array, "E E"]:
    """Which of E episodes took the very same joint actions, compared pair by pair."""
    marked = jnp.where(mask[..., None], actions, -1)
    return (marked[:, :, None] == marked[:, None, :]).all(axis=(0, 3))


def sequence_ids(actions: Int[Array, "T E N"], mask: Bool[Array, "T E"]) -> Int[Array, "E"]:
    """Names each episode by the first one that took the very same joint actions."""
    return same_sequence(actions, mask).argmax(-1)


def action_information(
    latent_probs: Float[Array, "Z K"], actions: Int[Array, "T E N"], mask: Bool[Array, "T E"]
) -> Float[Array, ""]:
    """I(z; joint actions | start): greedy episodes of every z from the same K starts, one of each.

    A start fixes all of an environment's draws, so that given it a greedy episode is a function of
    z, and the information is the entropy of the joint actions under p(z | s0). The mean over the
    starts is returned, in nats, between 0 and the mean of H(z | s0); how actions depend on the
    start alone does not count. Exact for these starts where z takes these values only. Where they
    are equally likely draws of a continuous z it is the plug-in estimate: at most log Z, and too
    small on average.

    Args:
        latent_probs: p(z | s0) at each start; each column sums to 1.
        actions: `E = Z K` episodes: those of the first z from every start, then those of the
            second, and so on; a draw of a continuous z may differ from start to start.
        mask: steps really taken.

    Raises:
        ValueError: there are not as many episodes as pairs of z and start.
    """
    num_latents, num_starts = latent_probs.shape
    if actions.shape[1] != num_latents * num_starts:
        raise ValueError(
            f"{actions.shape[1]} episodes are not one of each of {num_latents} z from each of "
            f"{num_starts} starts"
        )

    def of_start(probs, actions, mask):
        alike = same_sequence(actions, mask)
        first = jnp.argmax(alike, axis=-1) == jnp.arange(num_latents)
        return entropy(jnp.where(first, alike.astype(probs.dtype) @ probs, 0.0))

    def by_start(x):
        return x.reshape(x.shape[0], num_latents, num_starts, *x.shape[2:])

    return jax.vmap(of_start, in_axes=(1, 2, 2))(
        latent_probs, by_start(actions), by_start(mask)
    ).mean()


def sampled_action_information(
    latent_ids: Int[Array, "E"],
    actions: Int[Array, "T E N"],
    mask: Bool[Array, "T E"],
    num_latents: int,
    *,
    corrected: bool = False,
) -> Float[Array, ""]:
    """I(z; joint actions), counted over episodes whose z was sampled.

    Either estimate needs many episodes of each sequence: both are about H(z) where none repeats.

    Args:
        latent_ids: z of each episode, in 0, ..., `num_latents - 1`.
        actions: joint actions of each episode.
        mask: steps really taken; an episode of none is not counted.
        num_latents: how many values z has.
        corrected: `corrected_mutual_information` in place of the plug-in estimate.
    """
    ids, num_episodes = sequence_ids(actions, mask), actions.shape[1]
    counts = count_table(latent_ids, ids, num_latents, num_episodes, mask.any(0))
    estimate = corrected_mutual_information if corrected else plug_in_mutual_information
    return estimate(counts)
