"""JaxMARL's SMAX, micromanagement battles as in StarCraft."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from matplotlib.figure import Figure

from maven_jax.envs.adapters.adapter import (
    LARGEST_REWARD,
    Advance,
    number,
    one_of,
    whole_number,
)
from maven_jax.envs.adapters.jaxmarl_adapter import JaxMarlAdapter, import_jaxmarl
from maven_jax.envs.adapters.types import Observation, State

LONGEST_COOLDOWN = 2.0
"""Seconds: a stalker's 1.87, and at most 0.125 that JaxMARL draws."""


class Smax(JaxMarlAdapter):
    """A team of units against as many or more that follow a fixed policy.

    - agents_view: JaxMARL's units in sight, float32 [N, O].
    - global_state: JaxMARL's world state, float32, with positions as shares of the map, and with
      weapon cooldowns in seconds, clipped to 0 to 2: JaxMARL's fall without bound while a unit does
      not shoot, and it shoots at any cooldown up to 0.
    - action: four directions, stop, then one attack for each enemy.
    - reward: the enemies' loss of health, at most 1 in all, and 1 (`won_battle_bonus`) for a battle
      won.
    - termination: one of the teams is dead. (JaxMARL's own `done` counts its time limit in, and
      comes a step later than its `max_steps`.)
    - extras: "win_rate", 1 where all enemies are dead and an ally lives.
    """

    def __init__(
        self,
        scenario: str = "3m",
        see_enemy_actions: bool = True,
        walls_cause_death: bool = True,
        attack_mode: str = "closest",
        enemy_shoots: bool = True,
        won_battle_bonus: float = 1.0,
        use_self_play_reward: bool = False,
        observation_type: str = "unit_list",
        time_limit: int = 100,
    ) -> None:
        """Makes the battlefield.

        Args:
            scenario: one of JaxMARL's, such as 3m, 2s3z, 5m_vs_6m or smacv2_5_units.
            see_enemy_actions: whether enemies' last moves and targets are in the views.
            walls_cause_death: whether a unit at the map's edge dies.
            attack_mode: whom the enemies shoot at, closest or random.
            enemy_shoots: whether they shoot at all.
            won_battle_bonus: paid for a battle won.
            use_self_play_reward: JaxMARL's reward for self-play: the bonus for a battle won, minus
                the bonus for one lost, nothing for health.
            observation_type: unit_list, all units in sight in a fixed order, or conic, at most two
                in each of 32 directions.
            time_limit: steps after which an episode is cut.

        Raises:
            ValueError: a value that cannot work, or JaxMARL is not installed.
        """
        environments = import_jaxmarl()
        from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

        self.time_limit = whole_number("time_limit", time_limit, 1, 10_000)
        self.env = environments.HeuristicEnemySMAX(
            scenario=one_of("scenario", scenario, MAP_NAME_TO_SCENARIO),
            see_enemy_actions=see_enemy_actions,
            walls_cause_death=walls_cause_death,
            attack_mode=one_of("attack_mode", attack_mode, {m: m for m in ("closest", "random")}),
            enemy_shoots=enemy_shoots,
            won_battle_bonus=number("won_battle_bonus", won_battle_bonus, 0.0, LARGEST_REWARD),
            use_self_play_reward=use_self_play_reward,
            observation_type=one_of(
                "observation_type", observation_type, {t: t for t in ("unit_list", "conic")}
            ),
            max_steps=time_limit + 1,
        )
        self.num_agents = self.env.num_agents
        self.num_actions = self.env.num_ally_actions
        features = self.env.own_features  # of each unit; the world state then has two more each
        scale = np.ones((self.num_agents + self.env.num_enemies, len(features)), np.float32)
        scale[:, features.index("position_x")] = self.env.map_width
        scale[:, features.index("position_y")] = self.env.map_height
        self._state_scale = np.concatenate([scale.ravel(), np.ones(2 * len(scale), np.float32)])
        self._cooldowns = np.arange(len(scale)) * len(features) + features.index("weapon_cooldown")

    def _advance(self, key: PRNGKeyArray, env_state: Any, action: Int[Array, "N"]) -> Advance:
        step_key, _ = jax.random.split(key)  # as JaxMARL's own step, which starts anew at the end
        _, env_state, rewards, dones, _ = self.env.step_env(
            step_key, env_state, self._actions(action)
        )
        return Advance(env_state, rewards[self.env.agents[0]], dones["__all__"])

    def _observe(self, env_state: Any) -> Observation:
        world = self.env.get_world_state(env_state) / self._state_scale
        return Observation(
            agents_view=self._stack(self.env.get_obs(env_state)),
            action_mask=self._stack(self.env.get_avail_actions(env_state)).astype(bool),
            global_state=world.at[self._cooldowns].set(
                jnp.clip(world[self._cooldowns], 0.0, LONGEST_COOLDOWN)
            ),
        )

    def _extras(self, state: State) -> dict[str, Array]:
        alive = state.env_state.state.unit_alive
        won = alive[: self.num_agents].any() & ~alive[self.num_agents :].any()
        return {"win_rate": won.astype(jnp.float32)}

    def _viewer(self, states: Sequence[State]) -> tuple[Figure, Callable[[int], Any]]:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 5))
        still = {agent: jnp.int32(0) for agent in self.env.all_agents}
        frames = [(state.key, state.env_state.state, still) for state in states]
        # It asks of each unit whom it shoots by a `lax.cond`, which would be compiled every time.
        with jax.disable_jit():
            drawn = [self.env.init_render(axes, frames[0], 0, 0)]

        def update(frame: int) -> None:
            with jax.disable_jit():
                drawn[0] = self.env.update_render(drawn[0], frames[frame], 0, frame)

        return figure, update
