import pytest

from research.cluster import network


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("4x2,alpha=1ms,bw=1Gb", network.Network(4, 2, 1e-3, 1e9)),
    ("2x8,bw=10Gb,alpha=5ms", network.Network(2, 8, 5e-3, 1e10)),
    ("1x1,alpha=0us,bw=25Mb", network.Network(1, 1, 0.0, 2.5e7)),
    ("3x1,alpha=0.25s,bw=2.5Gb", network.Network(3, 1, 0.25, 2.5e9)),
  ],
)
def test_parse(text: str, expected: network.Network):
  assert network.parse(text) == expected
  assert network.parse(str(expected)) == expected


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "expected '' to be nodes x processes"),
    ("8,alpha=1ms,bw=1Gb", "expected '8' to be nodes x processes"),
    ("4x2", "expected alpha=TIME and bw=RATE after the grid, each once"),
    ("4x2,alpha=1ms", "expected alpha=TIME and bw=RATE"),
    ("4x2,alpha=1ms,alpha=1ms", "expected alpha=TIME and bw=RATE"),
    ("4x2,alpha=1ms,bw=1Gb,mtu=9", "expected alpha=TIME and bw=RATE"),
    ("0x2,alpha=1ms,bw=1Gb", "expected 1 to 64 nodes"),
    ("65x2,alpha=1ms,bw=1Gb", "expected 1 to 64 nodes"),
    ("4x0,alpha=1ms,bw=1Gb", "at least 1 process instead of '4x0'"),
    ("4x2,alpha=1,bw=1Gb", "alpha=1 to be a number and one of us, ms, s"),
    ("4x2,alpha=-1ms,bw=1Gb", "alpha=-1ms to be a number"),
    ("4x2,alpha=2s,bw=1Gb", "alpha to be at most 1s"),
    ("4x2,alpha=1ms,bw=1GB", "bw=1GB to be a number and one of Mb, Gb"),
    ("4x2,alpha=1ms,bw=1Mb", "bw to be from 10Mb to 100Gb"),
  ],
)
def test_bad_descriptions_say_what_is_expected(text: str, message: str):
  with pytest.raises(ValueError, match="for example 4x2") as caught:
    network.parse(text)
  assert message in str(caught.value)
  assert str(caught.value).startswith(f"got the network {text!r}; ")


def test_processes_are_numbered_node_by_node():
  grid = network.parse("3x2,alpha=1ms,bw=1Gb")
  assert [grid.node(i) for i in range(grid.num_processes)] == [0, 0, 1, 1, 2, 2]


def test_current_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch):
  monkeypatch.delenv(network.VARIABLE, raising=False)
  assert network.current() is None
  monkeypatch.setenv(network.VARIABLE, "2x1,alpha=1ms,bw=1Gb")
  assert network.current() == network.Network(2, 1, 1e-3, 1e9)
