import itertools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from research import mesh as mesh_lib

_SEEDS, _PURPOSES, _INDICES = (0, 1, 2**31), ("init", "sampling"), (0, 1, 7)


def test_the_same_names_give_the_same_key():
  one, two = (mesh_lib.key(3, "init", 5) for _ in range(2))
  assert bool((one == two).all())


def test_any_other_name_gives_another_key():
  keys = [
    tuple(jax.random.key_data(mesh_lib.key(*names)).tolist())
    for names in itertools.product(_SEEDS, _PURPOSES, _INDICES)
  ]
  assert len(set(keys)) == len(_SEEDS) * len(_PURPOSES) * len(_INDICES)


def test_the_index_may_be_traced():
  indices = jnp.arange(4)
  traced = jax.vmap(lambda i: mesh_lib.key(0, "sampling", i))(indices)
  plain = [mesh_lib.key(0, "sampling", i) for i in range(4)]
  np.testing.assert_array_equal(
    jax.random.key_data(traced),
    np.stack([jax.random.key_data(key) for key in plain]),
  )


def test_streams_are_uncorrelated_and_uniform():
  streams = np.stack(
    [
      jax.random.uniform(mesh_lib.key(0, purpose, index), (4096,))
      for purpose in ("init", "sampling")
      for index in (0, 1)
    ]
  )
  correlations = np.corrcoef(streams)[np.triu_indices(4, 1)]
  assert np.abs(correlations).max() < 5 / np.sqrt(4096)
  # Draws of neighbouring indices, pooled, still look like one uniform stream.
  across = np.array(
    jax.vmap(lambda i: jax.random.uniform(mesh_lib.key(0, "init", i)))(
      jnp.arange(2048)
    )
  )
  assert scipy.stats.kstest(across, "uniform").pvalue > 1e-3
