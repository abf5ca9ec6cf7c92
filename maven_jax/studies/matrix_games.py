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


class Learnt(NamedTuple):
    """What a fit ends with."""

    joint_values: Float[Array, "*A"]
    """The value of every joint action, an axis for each agent. Where each agent has a value of its
    own (IQL, and the rows of QTRAN's critic), their mean."""
    greedy: Int[Array, "N"]
    """The joint action of greedy play."""


def every_joint_action(num_agents: int, num_actions: int) -> Int[Array, "J N"]:
    """All joint actions, in the order of a payoff table's entries."""
    axes = jnp.meshgrid(*[jnp.arange(num_actions)] * num_agents, indexing="ij")
    return jnp.stack([axis.ravel() for axis in axes], axis=-1)


class Lane(NamedTuple):
    """What sets one fit of a batch apart; arrays, with a leading axis of lanes under `vmap`."""

    key: ScalarKey
    payoff: Float[Array, "*A"]
    uniform: Bool[Array, ""]
    """Whether behaviour is uniform; epsilon-greedy otherwise."""


Fit = Callable[[Lane, Hyperparameters], Learnt]


def make_fit(config: Config, env: MarlEnv, num_steps: int) -> Fit:
    """A pure function that learns a one-step game from fresh weights: to jit and vmap.

    A gradient step reads as many fresh episodes as there are joint actions: each taken once where
    behaviour is uniform, else as epsilon-greedy agents take them, epsilon falling from 1 to
    `LAST_EPSILON` over the first half of the steps. The step size falls linearly to 0.

    Args:
        config: names the algorithm and its sizes; one without a latent.
        env: a one-step game of as many agents and actions as the lanes' tables, which take the
            place of its payoffs.
        num_steps: gradient steps.
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

    def fit(lane: Lane, hyperparameters: Hyperparameters) -> Learnt:
        agent_key, mixer_key, play_key = jax.random.split(lane.key, 3)
        params = Params(
            agent=algorithm.agent.init_params(agent_key, spec, 0),
            mixer=algorithm.mixer.init_params(mixer_key, spec, 0),
            discriminator={},
        )

        def step(carry, step_and_key):
            index, key = step_and_key
            params, opt_state = carry
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


def _read(algorithm: Algorithm, params: Params, every: Episodes) -> Learnt:
    """Values and greedy play, from one episode of each joint action."""
    *_, num_agents, num_actions = every.action_mask.shape
    q_values = utilities(algorithm, params, every)
    values = algorithm.objective.joint_value(
        algorithm.mixer, Networks(q_values, params.mixer), every
    )[0]
    values = values.reshape(values.shape[0], -1).mean(-1)
    return Learnt(
        joint_values=values.reshape((num_actions,) * num_agents),
        greedy=greedy_actions(q_values[0, 0], every.action_mask[0, 0]),
    )


class Fits(NamedTuple):
    """One algorithm on several games of one shape: arrays over games, behaviours and seeds."""

    joint_values: Float[np.ndarray, "G 2 R *A"]
    """Uniform behaviour first, then epsilon-greedy."""
    greedy: Int[np.ndarray, "G 2 R N"]


def fit_games(
    algorithm: str, env: MarlEnv, payoffs: Float[np.ndarray, "G *A"], num_seeds: int, num_steps: int
) -> Fits:
    """Fits every game under both behaviours over seeds 0, 1, ..., as one compiled program.

    Args:
        algorithm: a name in `ALGORITHMS`, of one without a latent.
        env: a one-step game of the tables' number of agents and actions.
        payoffs: the tables.
        num_seeds: how many seeds.
        num_steps: gradient steps of each fit.
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
    learnt = map_lanes(make_fit(config, env, num_steps), lanes, hyperparameters)
    return Fits(*(x.reshape(*shape, *x.shape[1:]) for x in learnt))


def fits_table(
    title: str, payoff: np.ndarray, joint_values: np.ndarray, greedy: np.ndarray
) -> Table:
    """What one algorithm learnt of one payoff table, a row for each behaviour.

    The values are those of the seed whose squared error is the median. The title ends with the
    smallest error that any additive and any monotone table has.

    Args:
        title: names the algorithm and the game.
        payoff: the game's table.
        joint_values: learnt values over behaviours and seeds, as in `Fits`.
        greedy: joint actions of greedy play, likewise.
    """
    additive = squared_error(best_additive(payoff), payoff)
    monotone = squared_error(best_monotone(payoff), payoff)
    title = f"{title}: {pluralize(greedy.shape[1], 'seed')}"
    title += f"; best squared error additive {additive:.2f}, monotone {monotone:.2f}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("behaviour", "learnt values", "greedy"):
        table.add_column(heading, no_wrap=True)
    for heading in ("payoff", "squared error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, values, chosen in zip(("uniform", "eps-greedy"), joint_values, greedy, strict=True):
        errors = np.array([squared_error(value, payoff) for value in values])
        typical = values[np.argsort(errors)[(len(errors) - 1) // 2]]
        counts = Counter(map(action_name, chosen)).most_common()
        payoffs = [payoff[tuple(actions)] for actions in chosen]
        low, median, high = np.percentile(errors, [25, 50, 75])
        table.add_row(
            label,
            matrix_text(typical),
            "\n".join(f"{action}: {count}" for action, count in counts),
            f"{np.mean(payoffs):.2f}",
            f"{median:.2f}\n{low:.1f} to {high:.1f}",
            end_section=True,
        )
    return table


def squared_error(values: np.ndarray, payoff: np.ndarray) -> float:
    """Sum over joint actions of the squared difference, in squared units of payoff."""
    return float(((np.asarray(values, float) - np.asarray(payoff, float)) ** 2).sum())


def action_name(joint_action: np.ndarray) -> str:
    """Letters for actions, as the papers name them: (A, C)."""
    return "(" + ", ".join(chr(ord("A") + action) for action in joint_action) + ")"


def matrix_text(values: np.ndarray) -> str:
    """A payoff table's rows; one of more than two agents as a list of its entries."""
    rows = values if values.ndim == 2 else values.reshape(1, -1)
    return "\n".join(" ".join(f"{value:7.2f}" for value in row) for row in rows)
