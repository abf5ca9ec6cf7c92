"""What each algorithm learns of a payoff table, and how far that is from the best it could hold.

One-step games tell apart what a mixer can represent from what exploration finds. Every gradient
step reads fresh episodes, all joint actions once (uniform behaviour, exactly) or as epsilon-greedy
agents take them, so that nothing but the behaviour weighs the errors.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from rich.box import SIMPLE_HEAD
from rich.table import Table

from maven_jax.acting.rollout import env_spec, rollout, start_episodes
from maven_jax.algorithms.objectives import Networks
from maven_jax.algorithms.table import Algorithm, make_algorithm
from maven_jax.config import Config, Hyperparameters, NetworkConfig
from maven_jax.experiments.sweep import lane_keys, map_lanes, spread
from maven_jax.experiments.text import pluralize
from maven_jax.functional.exploration import (
    Behaviour,
    epsilon_greedy,
    greedy_actions,
    linear_schedule,
)
from maven_jax.learning.learner import make_optimizer, update, utilities
from maven_jax.studies.payoff_tables import best_additive, best_monotone
from maven_jax.types import Episodes, MarlEnv, Params, ScalarKey

LEARNING_RATE = 3e-3
"""RMSprop step size at the first step; it falls linearly to 0, so that values settle."""
LAST_EPSILON = 0.1


class Learned(NamedTuple):
    """What a fit ends with; many fits have leading axes."""

    joint_values: Float[Array, "*A"]
    """The value of every joint action, an axis for each agent. Where each agent has its own value
    (IQL, and the rows of QTRAN's critic), their mean."""
    greedy: Int[Array, "N"]
    """The joint action of greedy play."""


def every_joint_action(num_agents: int, num_actions: int) -> Int[Array, "J N"]:
    """All joint actions, in the order of a payoff table's entries."""
    return jnp.indices((num_actions,) * num_agents).reshape(num_agents, -1).T


class Lane(NamedTuple):
    """One fit of a batch; arrays have a leading axis of lanes under `vmap`."""

    key: ScalarKey
    payoff: Float[Array, "*A"]
    uniform: Bool[Array, ""]
    """Whether behaviour is uniform; epsilon-greedy otherwise."""


def make_fit(
    config: Config, env: MarlEnv, num_steps: int
) -> Callable[[Lane, Hyperparameters], Learned]:
    """A pure function that learns a one-step game from fresh weights in `num_steps` gradient steps.

    A step reads as many fresh episodes as there are joint actions: each taken once where behaviour
    is uniform, else as epsilon-greedy agents take them, epsilon falling from 1 to `LAST_EPSILON`
    over the first half of the steps. The algorithm of `config` has no latent. `env` is a one-step
    game of as many agents and actions as the lanes' tables, which replace its payoffs.
    """
    spec = env_spec(env)
    algorithm = make_algorithm(config, spec)
    joint_actions = every_joint_action(spec.num_agents, spec.num_actions)

    def play(params: Params, key: ScalarKey, payoff: Array, act: Behaviour) -> Episodes:
        start_key, act_key = jax.random.split(key)
        start = start_episodes(env, start_key, len(joint_actions))
        latent = jnp.zeros((len(joint_actions), 0), jnp.float32)
        episodes = rollout(env, algorithm.agent, params.agent, act_key, start, latent, act).episodes
        return episodes._replace(reward=payoff[tuple(jnp.moveaxis(episodes.actions, -1, 0))])

    def take_all(key, q_values, action_mask):
        return joint_actions

    def fit(lane: Lane, hyperparameters: Hyperparameters) -> Learned:
        agent_key, mixer_key, play_key = jax.random.split(lane.key, 3)
        params = Params(
            agent=algorithm.agent.init_params(agent_key, spec, 0),
            mixer=algorithm.mixer.init_params(mixer_key, spec, 0),
            discriminator={},
        )

        def step(carry, index_and_key):
            params, opt_state = carry
            index, key = index_and_key
            epsilon = linear_schedule(index, 1.0, LAST_EPSILON, num_steps / 2)
            rate: Any = linear_schedule(index, hyperparameters.learning_rate, 0.0, float(num_steps))

            def act(key, q_values, action_mask):
                explored = epsilon_greedy(key, q_values, action_mask, epsilon)
                return jnp.where(lane.uniform, joint_actions, explored)

            params, opt_state, _ = update(
                params,
                params,
                opt_state,
                {},
                play(params, key, lane.payoff, act),
                hyperparameters._replace(learning_rate=rate),
                algorithm,
                config,
            )
            return (params, opt_state), None

        optimizer = make_optimizer(config.training.optimizer, hyperparameters)
        carry = (params, optimizer.init(params))
        keys = jax.random.split(play_key, num_steps)
        (params, _), _ = jax.lax.scan(step, carry, (jnp.arange(num_steps), keys))
        return _read(algorithm, params, play(params, play_key, lane.payoff, take_all))

    return fit


def _read(algorithm: Algorithm, params: Params, every: Episodes) -> Learned:
    """Values and greedy play, from one episode of each joint action."""
    *_, num_agents, num_actions = every.action_mask.shape
    q_values = utilities(algorithm, params, every)
    networks = Networks(q_values, params.mixer)
    values = algorithm.objective.joint_value(algorithm.mixer, networks, every)[0]
    values = values.reshape(values.shape[0], -1).mean(-1)
    return Learned(
        joint_values=values.reshape((num_actions,) * num_agents),
        greedy=greedy_actions(q_values[0, 0], every.action_mask[0, 0]),
    )


def fit_games(
    algorithm: str, env: MarlEnv, payoffs: Float[np.ndarray, "G *A"], num_seeds: int, num_steps: int
) -> Learned:
    """Fits every game under both behaviours over seeds 0, 1, ..., as one compiled program.

    `algorithm` is a name in `ALGORITHMS`, and `env` a game of the tables' shape, whose own payoffs
    are not used.

    Returns:
        Arrays with leading axes of games, of behaviours (uniform, epsilon-greedy) and of seeds.
    """
    config = Config(
        algorithm=algorithm,
        network=NetworkConfig(hidden_size=32, mixer_embed_size=32),
        hyperparameters=Hyperparameters(learning_rate=LEARNING_RATE),
    )
    shape = len(payoffs), 2, num_seeds
    game, uniform, seed = (axis.ravel() for axis in np.indices(shape))
    lanes = Lane(
        key=lane_keys(seed),
        payoff=jnp.asarray(payoffs, jnp.float32)[game],
        uniform=jnp.asarray(uniform == 0),
    )
    hyperparameters = spread(config.hyperparameters, len(seed))
    learned = map_lanes(make_fit(config, env, num_steps), lanes, hyperparameters)
    return Learned(*(x.reshape(*shape, *x.shape[1:]) for x in learned))


def fits_table(
    title: str, payoff: np.ndarray, joint_values: np.ndarray, greedy: np.ndarray
) -> Table:
    """What one algorithm learned of one payoff table, a row for each behaviour.

    `joint_values` and `greedy` are those of `Learned`, with leading axes of behaviours and seeds.
    The values shown are those of the seed whose squared error is the median. The title ends with
    the smallest error that any additive and any monotone table has.
    """

    def squared_error(values: np.ndarray) -> float:
        return float(((np.asarray(values, float) - np.asarray(payoff, float)) ** 2).sum())

    additive, monotone = squared_error(best_additive(payoff)), squared_error(best_monotone(payoff))
    title = f"{title}: {pluralize(greedy.shape[1], 'seed')}"
    title += f"; best squared error additive {additive:.2f}, monotone {monotone:.2f}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("behaviour", "learnt values", "greedy"):
        table.add_column(heading, no_wrap=True)
    for heading in ("payoff", "squared error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, values, chosen in zip(("uniform", "eps-greedy"), joint_values, greedy, strict=True):
        errors = np.array([squared_error(value) for value in values])
        typical = values[np.argsort(errors)[(len(errors) - 1) // 2]]
        rows = typical if typical.ndim == 2 else typical.reshape(1, -1)
        names = ["(" + ", ".join(chr(ord("A") + a) for a in actions) + ")" for actions in chosen]
        payoffs = [payoff[tuple(actions)] for actions in chosen]
        low, median, high = np.percentile(errors, [25, 50, 75])
        table.add_row(
            label,
            "\n".join(" ".join(f"{value:7.2f}" for value in row) for row in rows),
            "\n".join(f"{name}: {count}" for name, count in Counter(names).most_common()),
            f"{np.mean(payoffs):.2f}",
            f"{median:.2f}\n{low:.1f} to {high:.1f}",
            end_section=True,
        )
    return table
