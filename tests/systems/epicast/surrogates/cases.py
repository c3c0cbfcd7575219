"""What the tests of surrogates share: parameters, and equations by hand."""

import numpy as np
from scipy import integrate

from research.systems.epicast.surrogates import model
from research.systems.epicast.surrogates.parameters import Parameters

DAYS = 360
AFRAID = Parameters(
  beta=0.45,
  phi_ff=0.05,
  phi_sf=3.0,
  rho_f=0.3,
  gamma_f=0.03,
  gamma_r=0.01,
  sigma_f=0.25,
  tau_f=0.6,
  infected=1e-3,
  fearful=0.02,
)
CALM = Parameters(beta=0.45, infected=1e-3)
HEARD = model.Model(
  "SEPI_sI_aR_sR_a×NF",
  exposed=True,
  presymptomatic=True,
  asymptomatic=True,
  broadcaster="incidence",
)
IDS = [one.name for one in model.MODELS]


def by_hand(name):
  """Equations written out, apart from the package: field and states."""
  return {"SIR×NF": _sir, "SI_sI_aR_sR_a×NF": _siirr}.get(name, _sepiirr)


def _sir(_, y, p):
  sn, sf, i_n, i_f, rn, rf = y
  lam = p.beta * (i_n + p.tau_f * i_f)
  up = p.phi_ff * (sf + i_f + rf) + p.phi_sf * (i_n + i_f)
  down = p.gamma_f + p.gamma_r * (rn + rf)
  g = 1 / p.infectious_days
  return [
    -lam * sn - up * sn + down * sf,
    -p.sigma_f * lam * sf + up * sn - down * sf,
    lam * sn - g * i_n - up * i_n + down * i_f,
    p.sigma_f * lam * sf - g * i_f + up * i_n - down * i_f,
    (1 - p.rho_f) * g * i_n - up * rn + down * rf,
    g * i_f + p.rho_f * g * i_n + up * rn - down * rf,
  ]


def _siirr(_, y, p):
  sn, sf, isn, isf, ian, iaf, rsn, rsf, ran, raf = y
  lam = p.beta * (
    isn + p.tau_f * isf + p.rel_trans_asymptomatic * (ian + p.tau_f * iaf)
  )
  up = p.phi_ff * (sf + isf + iaf + rsf + raf) + p.phi_sf * (isn + isf)
  down = p.gamma_f + p.gamma_r * (rsn + rsf + ran + raf)
  g, a = 1 / p.infectious_days, p.p_asymptomatic
  return [
    -lam * sn - up * sn + down * sf,
    -p.sigma_f * lam * sf + up * sn - down * sf,
    (1 - a) * lam * sn - g * isn - up * isn + down * isf,
    (1 - a) * p.sigma_f * lam * sf - g * isf + up * isn - down * isf,
    a * lam * sn - g * ian - up * ian + down * iaf,
    a * p.sigma_f * lam * sf - g * iaf + up * ian - down * iaf,
    (1 - p.rho_f) * g * isn - up * rsn + down * rsf,
    g * isf + p.rho_f * g * isn + up * rsn - down * rsf,
    g * ian - up * ran + down * raf,
    g * iaf + up * ran - down * raf,
  ]


def _sepiirr(_, y, p):
  sn, sf, en, ef, pn, pf, isn, isf, ian, iaf, rsn, rsf, ran, raf = y
  lam = p.beta * (
    p.rel_trans_presymptomatic * (pn + p.tau_f * pf)
    + isn
    + p.tau_f * isf
    + p.rel_trans_asymptomatic * (ian + p.tau_f * iaf)
  )
  fearful = sf + ef + pf + isf + iaf + rsf + raf
  up = p.phi_ff * fearful + p.phi_sf * (isn + isf)
  down = p.gamma_f + p.gamma_r * (rsn + rsf + ran + raf)
  e, q = 1 / p.latent_days, 1 / p.presymptomatic_days
  g, a = 1 / p.infectious_days, p.p_asymptomatic
  return [
    -lam * sn - up * sn + down * sf,
    -p.sigma_f * lam * sf + up * sn - down * sf,
    lam * sn - e * en - up * en + down * ef,
    p.sigma_f * lam * sf - e * ef + up * en - down * ef,
    e * en - q * pn - up * pn + down * pf,
    e * ef - q * pf + up * pn - down * pf,
    (1 - a) * q * pn - g * isn - up * isn + down * isf,
    (1 - a) * q * pf - g * isf + up * isn - down * isf,
    a * q * pn - g * ian - up * ian + down * iaf,
    a * q * pf - g * iaf + up * ian - down * iaf,
    (1 - p.rho_f) * g * isn - up * rsn + down * rsf,
    g * isf + p.rho_f * g * isn + up * rsn - down * rsf,
    g * ian - up * ran + down * raf,
    g * iaf + up * ran - down * raf,
  ]


def lsoda(field, start, days=DAYS):
  """Solves by scipy, daily, `[days + 1, states]`."""
  return integrate.odeint(
    lambda y, t: field(t, y),
    start,
    np.arange(days + 1.0),
    rtol=1e-11,
    atol=1e-14,
    mxstep=5000,
  )
