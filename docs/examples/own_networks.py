"""The library's pure loss functions with a custom model, optimiser and game.

Two agents play a one-step game in which (A, A) and (B, B) pay 1 and all else pays 0. Utilities are
a plain table for each value of z, the discriminator is one linear layer, and the optimiser is SGD.
The mutual information bound makes the team play differently for different values of z.
"""

import jax
import jax.numpy as jnp

from maven_jax.functional.exploration import epsilon_greedy, greedy_actions
from maven_jax.functional.losses import mi_lower_bound, td_loss

PAYOFF = jnp.array([[1.0, 0.0], [0.0, 1.0]])
NUM_LATENTS, NUM_AGENTS, NUM_ACTIONS = 2, 2, 2
LEGAL = jnp.ones((NUM_AGENTS, NUM_ACTIONS), bool)


def init(key: jax.Array) -> dict[str, jax.Array]:
    """Utilities `[Z N A]`, and the discriminator's weights `[N A Z]`."""
    q_key, v_key = jax.random.split(key)
    return {
        "q": 0.1 * jax.random.normal(q_key, (NUM_LATENTS, NUM_AGENTS, NUM_ACTIONS)),
        "v": 0.1 * jax.random.normal(v_key, (NUM_AGENTS, NUM_ACTIONS, NUM_LATENTS)),
    }


def loss(params, z, actions, reward, mi_weight):
    """Q-learning on the sum of utilities, less the weighted bound on I(z; policies)."""
    q_values = params["q"][z]  # [B N A]
    taken = jnp.take_along_axis(q_values, actions[..., None], axis=-1)[..., 0].sum(-1)
    zeros, taken_steps = jnp.zeros_like(reward), jnp.ones_like(reward, bool)
    td, _ = td_loss(taken, q_next=zeros, reward=reward, discount=zeros, mask=taken_steps)
    policies = jax.nn.softmax(q_values)
    log_q = jax.nn.log_softmax(jnp.einsum("bna,naz->bz", policies, params["v"]))
    log_q_of_z = jnp.take_along_axis(log_q, z[:, None], axis=-1)[:, 0]
    bound = mi_lower_bound(log_q_of_z, jnp.ones_like(reward), jnp.log(NUM_LATENTS))
    return td - mi_weight * bound


def train(key: jax.Array, mi_weight: jax.Array, num_steps: int = 2000, batch_size: int = 32):
    """Trained parameters, as a pure function of a key and a weight."""

    def step(params, key):
        z_key, act_key = jax.random.split(key)
        z = jax.random.randint(z_key, (batch_size,), 0, NUM_LATENTS)
        actions = epsilon_greedy(
            act_key, params["q"][z], jnp.broadcast_to(LEGAL, (batch_size, *LEGAL.shape)), 0.2
        )
        reward = PAYOFF[actions[:, 0], actions[:, 1]]
        grads = jax.grad(loss)(params, z, actions, reward, mi_weight)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), None

    init_key, train_key = jax.random.split(key)
    return jax.lax.scan(step, init(init_key), jax.random.split(train_key, num_steps))[0]


def joint_actions(params) -> jax.Array:
    """What the team plays under each z: `[Z N]`."""
    return greedy_actions(params["q"], jnp.broadcast_to(LEGAL, params["q"].shape))


if __name__ == "__main__":
    keys = jax.random.split(jax.random.key(0), 64)
    for weight in (0.0, 2.0):
        params = jax.jit(jax.vmap(train, in_axes=(0, None)))(keys, weight)
        actions = jax.vmap(joint_actions)(params)
        paid = PAYOFF[actions[..., 0], actions[..., 1]].mean()
        differ = (actions[:, 0] != actions[:, 1]).any(-1).mean()
        print(f"weight {weight}: mean payoff {paid:.2f}; z differ in {differ:.0%} of the seeds")
