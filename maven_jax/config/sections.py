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
    """Environment steps over which the learning rate falls linearly to 0. 0: constant."""
    rms_decay: float = 0.99
    """RMSprop decay of the mean square."""
    rms_epsilon: float = 1e-5
    """RMSprop constant, added outside the root."""
    max_grad_norm: float = 10.0
    """Global norm to which gradients are clipped."""
    gamma: float = 0.99
    """Discount factor of an environment step."""
    td_lambda: float = 0.0
    """TD(lambda): 0 gives one-step targets, 1 the rewards that followed."""
    reward_scale: float = 1.0
    """Factor on rewards in training; reported returns are unscaled. It does not reach the latent
    policy, whose returns have `latent_return_scale` alone."""
    shaping_weight: float = 0.0
    """Weight, at environment step 0, of the shaped reward that an environment such as Overcooked
    reports; training alone sees it."""
    shaping_steps: float = 0.0
    """Environment steps over which the shaping weight falls linearly to 0. 0: constant."""
    target_update_rate: float = 1.0
    """Step of the target network towards the online one. 1: a copy, as published. Below 1, with
    `training.target_update_interval` 1: a running mean of weights."""
    epsilon_start: float = 1.0
    """Exploration at environment step 0."""
    epsilon_finish: float = 0.01
    """Exploration from `epsilon_steps` on."""
    epsilon_steps: float = 100.0
    """Environment steps over which epsilon falls linearly."""
    monotonicity_weight: float = 0.0
    """Weight of the penalty on a negative dQ_tot/dQ_i, for mixers without `abs`."""
    optimum_weight: float = 1.0
    """Weight of QTRAN's loss at the greedy joint action."""
    nonoptimum_weight: float = 1.0
    """Weight of QTRAN's loss at the other joint actions."""
    exploration_temperature: float = 1.0
    """Temperature of Boltzmann exploration, in units of utility."""
    mi_weight: float = 0.1
    """lambda_MI: weight of the mutual information bound in the loss."""
    intrinsic_weight: float = 0.0
    """Weight of r_aux in the reward, with `discriminator.signal` `reward`."""
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
    """The environment."""

    name: str = "m_step_matrix"
    """A packaged environment, a registered one, or `module:Class` of your own."""
    options: Mapping[str, Any] = field(default_factory=FrozenDict)
    """Arguments of the environment's constructor."""

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
    """How z sets the weights of the agents' last layer. additive: W(z) + W(id), as published.
    paired: separate weights for each pair of z and agent id. residual: a layer shared by all z,
    plus a scaled W(z) + W(id)."""
    latent_head_scale: float = 1.0
    """Factor on the part of the agents' last layer that depends on z and agent id."""
    layer_norm: bool = False
    """Normalise each of the agents' hidden layers before its ReLU, without learnt weights; not in
    the published code."""
    mixer: str = ""
    """Mixer in place of the algorithm's own: independent, additive, monotonic, unconstrained, a
    registered one, or `module:Name`. Empty: the algorithm's own."""
    mixer_embed_size: int = 32
    """Width of the mixing layer."""
    mixer_skip_connections: bool = False
    """Add a direct path from the utilities to Q_tot."""
    mixer_hypernet_size: int = 0
    """Width of a hidden layer of the hypernetworks that give the mixing weights. 0: linear, as in
    MAVEN's published code. PyMARL's QMIX has 64."""
    mixer_init_scale: float = 1.0
    """Factor on the initial weights of QMIX's mixer. JaxMARL uses 0.001."""


@dataclass(frozen=True)
class LatentConfig:
    """The latent z of MAVEN, and the learning of its policy."""

    kind: str = "categorical"
    """Distribution of z. categorical: a learnt p(z | s0) over one-hot z. gaussian, logistic: a
    learnt p(z | s0) over vectors. bandit: softmax of estimated returns. uniform: fixed. Or a
    registered one, or `module:Name`."""
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
    """Probability of a uniform z with the bandit, in test episodes."""
    updates: int = 8
    """Optimiser steps of the latent policy for each gradient step."""
    batch_size: int = 64
    """Episodes in each optimiser step of the latent policy."""
    replay_size: int = 512
    """Number of recent episodes that the latent policy learns from. If `training.row_slots` is set,
    make it at least the number that end in a round: otherwise the earliest of these are lost."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The variational posterior q_v of MAVEN."""

    kind: str = "recurrent"
    """recurrent: reads the whole trajectory. feed_forward: reads one step. Or `module:Name`."""
    hidden_size: int = 32
    """Width of the discriminator's hidden layers."""
    hidden_layers: int = 2
    """Hidden layers of the discriminator."""
    recurrent_size: int = 32
    """Width of the recurrent discriminator's GRU."""
    reads: Literal["policies", "greedy_actions", "taken_actions"] = "policies"
    """What the discriminator reads. policies: Boltzmann policies. greedy_actions, taken_actions:
    actions, through which no gradient reaches the utilities."""
    signal: Literal["gradient", "reward"] = "gradient"
    """How the bound reaches the utilities: by its gradient, or detached, as reward r_aux."""


@dataclass(frozen=True)
class ExplorationConfig:
    """How the agents act in training."""

    kind: str = "epsilon_greedy"
    """epsilon_greedy: each agent explores independently. team_epsilon_greedy: all explore at once.
    boltzmann: softmax of the utilities. Or a registered one, or `module:Name`."""


@dataclass(frozen=True)
class TrainingConfig:
    """The loop: rounds of acting, then gradient steps, each on a replayed batch.

    A round plays one sequence in every environment, then takes `updates_per_round` gradient steps.
    A sequence is one episode, as published, or several packed end to end.
    """

    total_env_steps: int = 100_000
    """Environment steps of each seed. It stops at the next evaluation."""
    batch_size: int = 32
    """Sequences in a gradient step."""
    replay_size: int = 1_000
    """Sequences in the replay."""
    bootstrap_at_limit: bool = True
    """Bootstrap the value at the time limit. If false, the limit is a termination."""
    double_q: bool = True
    """Double Q-learning: next actions by the online network, their values by the target's."""
    normalize_targets: bool = False
    """Learn values in units of the targets' running mean and standard deviation (van Hasselt et al.
    2016), whatever the reward's scale; not in the published code."""
    num_envs: int = 1
    """Environments that each seed plays side by side."""
    row_slots: int = 0
    """Length of a packed sequence of several episodes; an episode of n steps uses n + 1 slots. 0:
    one episode a sequence, padded to the time limit."""
    updates_per_round: int = 1
    """Gradient steps after each round."""
    env_steps_per_update: float = 0.0
    """Environment steps for each gradient step, with `row_slots`. Sets `updates_per_round` to the
    nearest whole number; a packed sequence of S slots counts as S - 1 steps. 0: use
    `updates_per_round`."""
    optimizer: str = "rmsprop"
    """Optimiser of utilities, mixer and discriminator: rmsprop, as published; adam, or radam
    (rectified, Liu et al. 2020), both with the constants of their papers; or `module:Name`."""
    target_update_interval: int = 200
    """Gradient steps between updates of the target network."""
    updates_per_evaluation: int = 100
    """Gradient steps between evaluations, rounded up to whole rounds."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Greedy test episodes."""

    episodes: int = 64
    """Test episodes with z drawn from the latent policy."""
    episodes_per_latent: int = 4
    """Test episodes with each value of z."""
    latent_draws: int = 16
    """Draws of a continuous z at each start."""


@dataclass(frozen=True)
class Config:
    """A whole experiment: what is trained, where, and how; it has a hash."""

    algorithm: str = "maven"
    """A packaged algorithm, a registered one, or `module:Name` of your own."""
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
