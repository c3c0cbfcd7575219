"""Compartmental models of a disease and of fear, from one builder."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from research.runs import errors
from research.systems.epicast.disease import Stage
from research.systems.epicast.surrogates.parameters import Parameters


@dataclasses.dataclass(frozen=True)
class Model:
  """Disease stages times neutral (N) and fearful (F).

  With shares X_N, X_F of each stage X, force of infection

    λ = β [Is + κ_P P + κ_a Ia], where X = X_N + τ_f X_F,

  susceptible people are infected at rates λ (N) and σ_f λ (F); E, P, Is and Ia
  are left at the inverse of their mean lengths; onset leads to Ia with chance
  p_a, to Is otherwise; of N that leave Is, a share ρ_f comes to Rs as F. In
  every stage N become F at rate Φ, and F become N at rate Ψ:

    Φ = φ_ff F + φ_sf (Is_N + Is_F) + φ_b g,  Ψ = γ_f + γ_r (Rs + Ra).

  The broadcaster sees a signal x: the share of people who are symptomatic
  (`prevalence`) or who became so, a day (`incidence`). It is delayed by a chain
  of `lag_stages` equal stages, which makes the delay a gamma variable of that
  shape, and averages the signal over about `lag_days / √lag_stages`. What comes
  out, y, is heard as g = y / (1 + (threshold / y)^sharpness).

  Attributes:
    name: as the paper writes it.
    exposed: there is a stage E.
    presymptomatic: there is a stage P.
    asymptomatic: there are stages Ia and Ra; without them everybody who is
      infected is symptomatic.
    broadcaster: what it sees; None for none.
    lag_stages: of the broadcaster's delay; 0 for no delay.

  References:
    Kitson et al., arXiv 2506.07842: the names. The equations are our reading
    of its abstract and of Epstein et al. 2008; its own were not available.
  """

  name: str
  exposed: bool = False
  presymptomatic: bool = False
  asymptomatic: bool = False
  broadcaster: Literal["prevalence", "incidence"] | None = None
  lag_stages: int = 3

  def __post_init__(self):
    if self.lag_stages < 0:
      raise errors.UserError(
        f"lag_stages: got {self.lag_stages}; expected 0 or more"
      )

  @property
  def stages(self) -> tuple[Stage, ...]:
    """Stages of the disease, in the order of the states."""
    left_out = set()
    if not self.exposed:
      left_out.add(Stage.E)
    if not self.presymptomatic:
      left_out.add(Stage.P)
    if not self.asymptomatic:
      left_out |= {Stage.IA, Stage.RA}
    every = (*Stage,)[: Stage.ABSENT]
    return tuple(stage for stage in every if stage not in left_out)

  @property
  def states(self) -> tuple[str, ...]:
    """Names of the states: S_N, S_F, ..., then the broadcaster's."""
    people = [
      f"{stage.name.title()}_{fear}" for stage in self.stages for fear in "NF"
    ]
    return (*people, *(f"signal_{k}" for k in range(self._signals)))

  @property
  def _signals(self) -> int:
    return self.lag_stages if self.broadcaster else 0

  def initial(self, parameters: Parameters) -> Float[Array, " states"]:
    """Returns shares at the start.

    The infected ones are in the first stage after S, or, where that is the
    onset, in Is and Ia; all of them neutral.
    """
    well = 1 - parameters.infected
    fearful = parameters.fearful * well
    people = {stage: jnp.zeros(2) for stage in self.stages}
    people[Stage.S] = jnp.stack([well - fearful, fearful])
    infected = jnp.stack([jnp.asarray(parameters.infected), jnp.zeros(())])
    if self.exposed or self.presymptomatic:
      people[self.stages[1]] = infected
    else:
      people |= self._onset(parameters, infected)
    return jnp.concatenate([*people.values(), jnp.zeros(self._signals)])

  def field(
    self, t: ArrayLike, y: Float[Array, " states"], parameters: Parameters
  ) -> Float[Array, " states"]:
    """Changes a day: nothing in it depends on the time `t`.

    Args:
      t: days.
      y: shares, in the order of `states`.
      parameters: of the model.
    """
    del t
    people, signal = self._split(y)
    change, onset = self._disease(people, parameters)
    ill = people[Stage.IS].sum()
    seen = onset if self.broadcaster == "incidence" else ill
    chain = jnp.concatenate([seen[None], signal])
    gain = self._fear(people, chain[-1], parameters)
    loss = parameters.gamma_f + parameters.gamma_r * self._recovered(people)
    for stage, (neutral, fearful) in people.items():
      turn = gain * neutral - loss * fearful
      change[stage] += jnp.stack([-turn, turn])
    rate = self.lag_stages / parameters.lag_days
    signal = rate * (chain[:-1] - chain[1:])
    return jnp.concatenate([*change.values(), signal])

  def _disease(
    self, people: dict[Stage, Array], parameters: Parameters
  ) -> tuple[dict[Stage, Array], Array]:
    """What the disease changes, and how many become symptomatic a day."""
    emits = jnp.stack([jnp.ones(()), parameters.tau_f])
    catches = jnp.stack([jnp.ones(()), parameters.sigma_f])
    weights = {
      Stage.P: parameters.rel_trans_presymptomatic,
      Stage.IS: 1.0,
      Stage.IA: parameters.rel_trans_asymptomatic,
    }
    sources = [w * people[s] for s, w in weights.items() if s in people]
    force = parameters.beta * (emits * sum(sources)).sum()
    flow = catches * force * people[Stage.S]
    change = {Stage.S: -flow}
    waits = {
      Stage.E: parameters.latent_days,
      Stage.P: parameters.presymptomatic_days,
    }
    for stage, days in waits.items():
      if stage in people:
        leaves = people[stage] / days
        change[stage], flow = flow - leaves, leaves
    ill = self._onset(parameters, flow)
    for stage, comes in ill.items():
      change[stage] = comes - people[stage] / parameters.infectious_days
    for stage in ill:
      leaves = people[stage] / parameters.infectious_days
      moves = parameters.rho_f * leaves[0] * (stage == Stage.IS)
      change[_after(stage)] = leaves + jnp.stack([-moves, moves])
    return change, ill[Stage.IS].sum()

  def _onset(self, parameters: Parameters, flow: Array) -> dict[Stage, Array]:
    if not self.asymptomatic:
      return {Stage.IS: flow}
    chance = jnp.asarray(parameters.p_asymptomatic)
    return {Stage.IS: (1 - chance) * flow, Stage.IA: chance * flow}

  def _fear(
    self, people: dict[Stage, Array], heard: Array, parameters: Parameters
  ) -> Array:
    """Rate a day at which a neutral person becomes fearful."""
    fearful = jnp.stack([both[1] for both in people.values()]).sum()
    ill = people[Stage.IS].sum()
    rate = jnp.asarray(parameters.phi_ff * fearful + parameters.phi_sf * ill)
    if not self.broadcaster:
      return rate
    # Far below the threshold nothing is heard: the ratio needs no more range.
    ratio = parameters.threshold / jnp.maximum(heard, 1e-20)
    muffled = jnp.minimum(ratio, 1e4) ** parameters.sharpness
    return rate + jnp.asarray(parameters.phi_b) * heard / (1 + muffled)

  def _recovered(self, people: dict[Stage, Array]) -> Array:
    stages = [s for s in (Stage.RS, Stage.RA) if s in people]
    return jnp.stack([people[stage] for stage in stages]).sum()

  def _split(self, y: Array) -> tuple[dict[Stage, Array], Array]:
    count = 2 * len(self.stages)
    pairs = y[:count].reshape(-1, 2)
    return dict(zip(self.stages, pairs, strict=True)), y[count:]

  def by_stage(
    self, states: Float[np.ndarray, "*batch states"]
  ) -> Float[np.ndarray, "*batch stages"]:
    """Sums over fear; columns are `disease.Stage`, so as an agent run's counts.

    Example:
      >>> states = np.array([0.5, 0.2, 0.1, 0.1, 0.1, 0.0])
      >>> SIR.by_stage(states).round(1).tolist()
      [0.7, 0.0, 0.0, 0.2, 0.0, 0.1, 0.0, 0.0]
    """
    table = np.zeros((len(self.states), len(Stage)))
    for index, stage in enumerate(self.stages):
      table[2 * index : 2 * index + 2, stage] = 1
    return states @ table

  def fearful(
    self, states: Float[np.ndarray, "*batch states"]
  ) -> Float[np.ndarray, "*batch"]:
    """Share of people who are fearful."""
    return states[..., 1 : 2 * len(self.stages) : 2].sum(-1)

  def reproduction_number(self, parameters: Parameters) -> ArrayLike:
    """Infections by one person among neutral susceptible ones (R0)."""
    days = parameters.infectious_days
    asymptomatic = parameters.p_asymptomatic if self.asymptomatic else 0.0
    ill = 1 - asymptomatic
    ill += asymptomatic * parameters.rel_trans_asymptomatic
    before = parameters.rel_trans_presymptomatic * self.presymptomatic
    return parameters.beta * (
      ill * days + before * parameters.presymptomatic_days
    )


def _after(stage: Stage) -> Stage:
  return {Stage.IS: Stage.RS, Stage.IA: Stage.RA}[stage]


SIR = Model("SIR×NF")
SIIRR = Model("SI_sI_aR_sR_a×NF", asymptomatic=True)
SEPIIRR = Model(
  "SEPI_sI_aR_sR_a×NF", exposed=True, presymptomatic=True, asymptomatic=True
)
MODELS = (SIR, SIIRR, SEPIIRR)
