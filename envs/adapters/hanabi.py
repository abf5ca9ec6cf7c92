"""JaxMARL's Hanabi."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from matplotlib.figure import Figure

from maven_jax.envs.adapters.adapter import Advance, whole_number
from maven_jax.envs.adapters.jaxmarl_adapter import JaxMarlAdapter, import_jaxmarl
from maven_jax.envs.adapters.types import Observation, State

INKS = {
    "R": "tab:red",
    "Y": "goldenrod",
    "G": "tab:green",
    "W": "darkgray",
    "B": "tab:blue",
}
"""What JaxMARL's letters of the colours are drawn in."""


class Table(NamedTuple):
    """JaxMARL's state, and what each player sees of it, which depends on the last move.

    Attributes:
        state: JaxMARL's.
        views: of each player.
    """

    state: Any
    views: Float[Array, "N O"]


class Hanabi(JaxMarlAdapter):
    """Players who see all cards but their own, and build a firework of each colour by hints.

    Whoever's turn it is not has one legal action, to do nothing. Of a colour there are three cards
    of the first rank, one of the last and two of each other.

    - agents_view: JaxMARL's: the others' hands, the table, the last move, and what has been hinted
      at and can be concluded of every card, float32 [N, O].
    - global_state: the first player's view, its hand and whose turn it is, float32.
    - action: discard a card, play one, name a colour to another, a rank, or nothing.
    - reward: 1 for a card that fits; with the last life all that was paid is taken back.
    - termination: no life is left, all fireworks are complete, or each had a turn after the last
      card was drawn.
    - extras: "score", the cards that fit; 0 without a life.
    """

    def __init__(
        self,
        num_agents: int = 2,
        num_colors: int = 5,
        num_ranks: int = 5,
        hand_size: int = 0,
        info_tokens: int = 8,
        life_tokens: int = 3,
        time_limit: int = 100,
    ) -> None:
        """Makes the table.

        Args:
            num_agents: players, 2 to 5.
            num_colors: 1 to 5.
            num_ranks: 2 to 5.
            hand_size: cards in a hand, 1 to 5; 0, the default, as the rules have it: 5 of 2 or 3
                players, 4 of more.
            info_tokens: hints that can be given before a card is discarded, 1 to 8.
            life_tokens: cards that may fail to fit, the last of which ends the game, 1 to 3.
            time_limit: moves after which an episode is cut.

        Raises:
            ValueError: a value that cannot work, or JaxMARL is not installed.
        """
        environments = import_jaxmarl()
        self.num_agents = whole_number("num_agents", num_agents, 2, 5)
        self.time_limit = whole_number("time_limit", time_limit, 1, 10_000)
        num_ranks = whole_number("num_ranks", num_ranks, 2, 5)
        of_rank = np.array([3, *[2] * (num_ranks - 2), 1])
        sizes = {
            "num_colors": whole_number("num_colors", num_colors, 1, len(INKS)),
            "num_ranks": num_ranks,
            "hand_size": whole_number("hand_size", hand_size, 0, 5) or (5 if num_agents < 4 else 4),
        }
        dealt, cards = num_agents * sizes["hand_size"], num_colors * of_rank.sum()
        if dealt >= cards:
            raise ValueError(
                f"num_agents and hand_size make {dealt} cards to deal; allowed: "
                f"{cards - 1}, one less than num_colors and num_ranks make"
            )
        self.env = environments.Hanabi(
            num_agents,
            **sizes,
            num_cards_of_rank=of_rank,
            max_info_tokens=whole_number("info_tokens", info_tokens, 1, 8),
            max_life_tokens=whole_number("life_tokens", life_tokens, 1, 3),
        )
        self.num_actions = int(self.env.num_moves)

    def _start(self, key: PRNGKeyArray) -> Table:
        views, state = self.env.reset(key)
        return Table(state, self._stack(views))

    def _advance(self, key: PRNGKeyArray, env_state: Table, action: Int[Array, "N"]) -> Advance:
        step_key, _ = jax.random.split(key)
        views, state, rewards, dones, _ = self.env.step_env(
            step_key, env_state.state, self._actions(action)
        )
        table = Table(state, self._stack(views))
        return Advance(table, rewards[self.env.agents[0]], dones["__all__"])

    def _observe(self, env_state: Table) -> Observation:
        state, views = env_state
        own = state.player_hands[0].ravel()
        return Observation(
            agents_view=views,
            action_mask=self._stack(self.env.get_legal_moves(state)).astype(bool),
            global_state=jnp.concatenate([views[0], own, state.cur_player_idx]),
        )

    def _extras(self, state: State) -> dict[str, Array]:
        return {"score": state.env_state.state.score.astype(jnp.float32)}

    def _viewer(self, states: Sequence[State]) -> tuple[Figure, Callable[[int], Any]]:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(5, 1 + 0.5 * self.num_agents))

        def draw(frame: int) -> None:
            axes.clear()
            axes.axis("off")
            axes.set(xlim=(0, 8), ylim=(-self.num_agents - 1, 1))
            table = jax.device_get(states[frame].env_state.state)
            heights = table.fireworks.sum(-1).astype(int).tolist()
            built = [(color, rank - 1) for color, rank in enumerate(heights) if rank]
            self._draw_row(axes, 0, "fireworks", built)
            for player, hand in enumerate(table.player_hands):
                turn = " *" if table.cur_player_idx[player] else ""
                cards = [divmod(int(c.argmax()), self.env.num_ranks) for c in hand if c.any()]
                self._draw_row(axes, -player - 1, f"player {player + 1}{turn}", cards)
            lives, hints = int(table.life_tokens.sum()), int(table.info_tokens.sum())
            axes.set_title(f"{hints} hints, {lives} lives", fontsize=10)

        draw(0)
        return figure, draw

    def _draw_row(self, axes: Any, y: int, label: str, cards: Sequence[tuple[int, int]]) -> None:
        """A label, then cards by colour and rank."""
        axes.text(0, y, label, va="center")
        for x, (color, rank) in enumerate(cards):
            box = {"facecolor": INKS[self.env.color_map[color]], "edgecolor": "none"}
            axes.text(3 + x, y, str(rank + 1), color="white", va="center", ha="center", bbox=box)
