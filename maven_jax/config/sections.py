"""A whole experiment as frozen dataclasses, and the numbers that are traced."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from maven_jax.config.frozen import FrozenDict

LatentHeadKind = Literal["additive", "paired", "residual"]


class Hyperparameters(NamedTuple):
    """Traced numbers; under `vmap` each may carry an axis of values. The defaults are MAVEN's."""

    learning_rate: float = 5e-4
    """Step size of utilities, mixer and discriminator."""
    learning_rate_steps: float = 0.0
    """Environment steps over which that step size falls linearly to 0; 0 for a constant one."""
    rms_decay: float = 0.99
    """RMSprop decay of the mean square."""
    rms_epsilon: float = 1e-5
    """RMSprop constant, added outside the root."""
    max_grad_norm: float = 10.0
    """Global norm to which gradients are clipped."""
    gamma: float = 0.99
    """Discount factor of an environment step."""
    td_lambda: float = 0.0
    """Weight of the rewards that followed against bootstrapped values: 0 for one-step targets."""
    reward_scale: float = 1.0
    """Factor on the reward that is kept and learnt from; returns are reported without it. The
    latent policy has `latent_return_scale`."""
    target_update_rate: float = 1.0
    """How far the target network moves towards the online one at each update of it: 1 for a copy,
    as published; less, with `training.target_update_interval` 1, for a running mean of weights."""
    epsilon_start: float = 1.0
    """Exploration at environment step 0."""
    epsilon_finish: float = 0.01
    """Exploration from `epsilon_steps` on."""
    epsilon_steps: float = 100.0
    """Environment steps over which epsilon falls linearly."""
    monotonicity_weight: float = 0.0
    """Weight of the penalty on a negative dQ_tot/dQ_i; read by unconstrained mixers alone."""
    optimum_weight: float = 1.0
    """Weight of QTRAN's loss at the greedy joint action."""
    nonoptimum_weight: float = 1.0
    """Weight of QTRAN's loss at the other joint actions."""
    exploration_temperature: float = 1.0
    """Temperature of Boltzmann exploration, in units of utility."""
    mi_weight: float = 0.1
    """lambda_MI: weight of the mutual information bound in the loss; read by MAVEN alone."""
    intrinsic_weight: float = 0.0
    """Weight of r_aux in the reward, where `discriminator.signal` is `reward`."""
    temperature: float = 1.0
    """alpha of the Boltzmann policies that the discriminator reads, in units of utility."""
    latent_learning_rate: float = 5e-4
    """Adam step size of the latent policy."""
    latent_return_scale: float = 1.0
    """Factor on the returns that the latent policy learns from."""
    latent_entropy_weight: float = 0.0
    """Weight of the latent policy's entropy H(z | s0), in units of scaled return."""


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, and the arguments of its constructor."""

    name: str = "m_step_matrix"
    """A packaged environment, or `module:Class` of your own."""
    options: Mapping[str, Any] = field(default_factory=FrozenDict)
    """Kept as a `FrozenDict`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", FrozenDict(self.options))


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of utilities and mixer."""

    hidden_size: int = 64
    """Width of the agents' hidden layers and GRU."""
    hidden_layers: int = 1
    """ReLU layers of the agents before their GRU; the published code has one."""
    latent_head: LatentHeadKind = "additive"
    """The last layer's weights as a sum of what z and the agent's id each give, as published; a
    layer for every pair of the two: then values of z share the recurrent network alone; or such a
    sum in small, added to a layer that all values of z share."""
    latent_head_scale: float = 1.0
    """Factor on what z and the agent's id give to that layer's weights."""
    layer_norm: bool = False
    """Normalise each of the agents' hidden layers before its ReLU, without learnt weights; not in
    the published code."""
    mixer_embed_size: int = 32
    """Width of the mixing layer."""
    mixer_skip_connections: bool = False
    """Add a direct path from the utilities to Q_tot."""
    mixer_hypernet_size: int = 0
    """Width of a hidden layer of the hypernetworks that give the mixing weights; 0 for linear ones,
    as in MAVEN's published code. PyMARL's QMIX has one of 64."""
    mixer_init_scale: float = 1.0
    """Factor on QMIX's mixer's fresh weights; JaxMARL's is 0.001."""


@dataclass(frozen=True)
class LatentConfig:
    """The latent z of MAVEN, and the learning of its policy."""

    kind: Literal["categorical", "gaussian", "logistic", "bandit", "uniform"] = "categorical"
    """A learnt policy p(z | s0), over one-hot z or over vectors; one-hot z by estimates of its
    return (bandit); or uniform one-hot z."""
    size: int = 16
    """Number of values of z, or its dimensions."""
    hidden_size: int = 128
    """Width of the latent policy's hidden layer, or of the bandit's two."""
    bandit_scale: float = 20.0
    """Factor on the output of the bandit's network, in units of return."""
    bandit_temperature: float = 1.0
    """Temperature of the bandit's softmax over estimated returns, in units of return."""
    bandit_epsilon: float = 0.1
    """Probability of a uniform z with the bandit, in training."""
    bandit_test_epsilon: float = 0.0
    """The same in test episodes."""
    updates: int = 8
    """Optimiser steps of the latent policy for each gradient step."""
    batch_size: int = 64
    """Episodes in each of them."""
    replay_size: int = 512
    """How many of the last episodes they are drawn from; with `training.row_slots` at least as many
    as a round ends, or those that end first in it are lost."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The variational posterior q_v of MAVEN."""

    kind: Literal["recurrent", "feed_forward"] = "recurrent"
    """Read whole trajectories, or each step alone."""
    hidden_size: int = 32
    hidden_layers: int = 2
    recurrent_size: int = 32
    reads: Literal["policies", "greedy_actions", "taken_actions"] = "policies"
    """Boltzmann policies; or actions, greedy ("hard") or taken, which cuts the gradient to the
    utilities."""
    signal: Literal["gradient", "reward"] = "gradient"
    """How the bound reaches the utilities: by its gradient, or detached, as reward r_aux."""


@dataclass(frozen=True)
class ExplorationConfig:
    """How the agents act in training."""

    kind: Literal["epsilon_greedy", "team_epsilon_greedy", "boltzmann"] = "epsilon_greedy"
    """Greedy but for a scheduled share of random actions, drawn for each agent or for all at once;
    or by softmax of the utilities."""


@dataclass(frozen=True)
class TrainingConfig:
    """The loop: rounds of acting, then gradient steps, each on a replayed batch.

    What is played, kept and learnt from are rows. A row is one episode, as published, or holds
    several end to end. A gradient step is taken for every `num_envs / updates_per_round` rows; 1 as
    published.
    """

    total_env_steps: int = 100_000
    """Environment steps after which a seed stops, at the next evaluation."""
    batch_size: int = 32
    """Rows in a gradient step."""
    replay_size: int = 1_000
    """Rows kept."""
    bootstrap_at_limit: bool = True
    """Value what would have followed an episode that its time limit cut; otherwise the limit counts
    as an end, as some libraries have it."""
    double_q: bool = True
    """Choose the next actions by the online network, value them by the target's."""
    normalize_targets: bool = False
    """Learn values in units of the targets' running mean and standard deviation (van Hasselt et al.
    2016), whatever the reward's scale; not in the published code. QMIX's mixer should then begin
    near 0, by `network.mixer_init_scale`."""
    num_envs: int = 1
    """Environments that each seed plays side by side, one row of each in a round."""
    row_slots: int = 0
    """Slots of a row, where it holds several episodes, each of which takes one more than it has
    steps; 0 for one episode a row, padded to the time limit."""
    updates_per_round: int = 1
    """Gradient steps after each round."""
    env_steps_per_update: float = 0.0
    """Environment steps to each gradient step, with `row_slots` and in place of
    `updates_per_round`, which is set to the nearest; 0 to go by the latter. Every slot of a row but
    its last counts as a step: episodes of n steps take n for each n + 1 of them."""
    optimizer: Literal["rmsprop", "adam", "radam"] = "rmsprop"
    """Of utilities, mixer and discriminator: RMSprop, as published, Adam or rectified Adam (Liu et
    al. 2020), the latter two with the constants of their papers."""
    target_update_interval: int = 200
    """Gradient steps between updates of the target network, by `target_update_rate`."""
    updates_per_evaluation: int = 100
    """Gradient steps between evaluations, the length of a compiled chunk; with
    `env_steps_per_update` at least so many, in whole rounds."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Greedy test episodes."""

    episodes: int = 64
    """With z drawn from the latent policy."""
    episodes_per_latent: int = 4
    """With each value of z."""
    latent_draws: int = 16
    """How many draws stand for the values of a continuous z."""


@dataclass(frozen=True)
class Config:
    """A whole experiment: what is trained, where, and how; it has a hash."""

    algorithm: str = "maven"
    """A name in `maven_jax.algorithms.ALGORITHMS`."""
    fidelity: Literal["paper", "reference"] = "paper"
    """Follow the paper, or the published code where the two differ."""
    env: EnvConfig = field(default_factory=EnvConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    latent: LatentConfig = field(default_factory=LatentConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
