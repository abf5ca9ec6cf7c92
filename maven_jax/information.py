"""Entropy and mutual information of tables and of counted episodes, in nats."""

import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, Bool, Float, Int


def entropy(p: Float[Array, "*L K"]) -> Float[Array, "*L"]:
    """H(X) = -sum p log p of a distribution along the last axis, with 0 log 0 = 0."""
    return -xlogy(p, p).sum(-1)


def mutual_information(joint: Float[Array, "X Y"]) -> Float[Array, ""]:
    """I(X; Y) = H(X) + H(Y) - H(X, Y) of a table of joint probabilities."""
    return entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint.ravel())


def same_sequence(actions: Int[Array, "T E N"], mask: Bool[Array, "T E"]) -> Bool[Array, "E E"]:
    """Which of E episodes took the very same joint actions, compared pair by pair."""
    marked = jnp.where(mask[..., None], actions, -1)
    return (marked[:, :, None] == marked[:, None, :]).all(axis=(0, 3))


def action_information(
    latent_probs: Float[Array, "Z"], actions: Int[Array, "T E N"], mask: Bool[Array, "T E"]
) -> Float[Array, ""]:
    """I(z; joint actions), counted over K episodes of each z and weighted by p(z).

    Exact where greedy play in a deterministic game makes the joint actions a function of z;
    elsewhere the plug-in estimate, biased upwards when K is small.

    Args:
        latent_probs: p(z).
        actions: `E = Z K` episodes: those of z = 0 first, then those of z = 1, and so on.
        mask: steps really taken.
    """
    num_latents, num_episodes = latent_probs.shape[0], actions.shape[1]
    same = same_sequence(actions, mask).astype(latent_probs.dtype)
    per_latent = num_episodes // num_latents
    given_latent = same.reshape(num_episodes, num_latents, per_latent).mean(-1)
    own = jnp.repeat(jnp.arange(num_latents), per_latent)
    p_given_own = given_latent[jnp.arange(num_episodes), own]
    p_sequence = given_latent @ latent_probs
    weight = jnp.repeat(latent_probs, per_latent) / per_latent
    return (xlogy(weight, p_given_own) - xlogy(weight, p_sequence)).sum()
