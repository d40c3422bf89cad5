"""The examples run, and the physics of the real one is right."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import packtivity
from packtivity import spec

ROOT = Path(__file__).resolve().parent.parent
CHAIN = ROOT / "examples" / "phenochain"
EVENTS = 200
NEEDED = ("chromo", "fastjet", "matplotlib", "pyhepmc")
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run_chain(output: Path, events: int = EVENTS) -> dict[str, Any]:
    """Run all three steps, return what each published."""
    subprocess.run(["bash", str(CHAIN / "run.sh"), str(output), str(events)], env=ENVIRONMENT, check=True)
    return {step: json.loads((output / f"{step}.json").read_text()) for step in ("generate", "cluster", "histogram")}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        message = f"{', '.join(absent)} not installed; run 'make test', or install the dependency group demo"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return run_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def histograms(published: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(published["histogram"]["histogram"]).read_text())
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/*.yml")), ids=lambda path: path.stem)
def test_example_specs_have_nothing_to_complain_about(path: Path) -> None:
    if path.name in {"generate.yml", "cluster.yml", "histogram.yml", "hello.yml"}:
        assert spec.inspect(str(path)).diagnostics == ()


def test_hello_greets(tmp_path: Path) -> None:
    result = packtivity.run(str(ROOT / "examples/hello/hello.yml"), {"name": "World"}, workdir=str(tmp_path))
    assert Path(result["greeting"]).read_text() == "Hello World\n"


def test_all_three_steps_publish_paths_that_are_there(published: dict[str, Any]) -> None:
    assert set(published["generate"]) == {"hepmc"}
    assert [Path(path).name for path in published["cluster"]["jets"]] == ["jets-0.4.json", "jets-0.7.json"]
    named = [published["generate"]["hepmc"], *published["cluster"]["jets"], published["histogram"]["picture"]]
    assert all(Path(path).stat().st_size > 0 for path in named)


def test_every_collision_conserves_four_momentum(published: dict[str, Any]) -> None:
    import pyhepmc

    seen = 0
    with pyhepmc.open(published["generate"]["hepmc"]) as file:
        for event in file:
            seen += 1
            assert event.momentum_unit == pyhepmc.Units.GEV
            final = [particle.momentum for particle in event.particles if particle.status == 1]
            beams = [particle.momentum for particle in event.particles if particle.status == 4]
            assert len(beams) == 2
            for component, tolerance in (("px", 0.05), ("py", 0.05), ("pz", 1.0), ("e", 1.0)):
                total = math.fsum(getattr(momentum, component) for momentum in final)
                expected = math.fsum(getattr(momentum, component) for momentum in beams)
                assert total == pytest.approx(expected, abs=tolerance), component
            assert math.fsum(momentum.e for momentum in beams) == pytest.approx(13000, abs=0.01)
    assert seen == EVENTS


def test_the_inelastic_cross_section_is_near_the_measured_one(published: dict[str, Any]) -> None:
    # ATLAS, arXiv:1606.02625: 78.1 +- 2.9 mb at 13 TeV.
    assert published["histogram"]["cross_section_mb"] == pytest.approx(78.1, abs=2 * 2.9)


def test_jets_keep_to_what_was_asked_for(published: dict[str, Any]) -> None:
    for path in published["cluster"]["jets"]:
        document = json.loads(Path(path).read_text())
        jets = [jet for event in document["events"] for jet in event]
        assert len(document["events"]) == EVENTS
        assert jets
        assert all(jet["pt"] >= document["ptmin"] for jet in jets)
        assert all(abs(jet["phi"]) <= math.pi for jet in jets)
        assert all([*map(_pt, event)] == sorted(map(_pt, event), reverse=True) for event in document["events"])


def _pt(jet: dict[str, float]) -> float:
    return jet["pt"]


def test_the_spectrum_integrates_to_the_number_of_jets(histograms: dict[str, Any], published: dict[str, Any]) -> None:
    edges = histograms["edges_gev"]
    widths = [high - low for low, high in itertools.pairwise(edges)]
    for found in histograms["histograms"]:
        assert found["below"] + sum(found["counts"]) + found["above"] == found["jets"]
        integral = math.fsum(h * w for h, w in zip(found["spectrum_mb_per_gev"], widths, strict=True))
        millibarn_per_jet = published["histogram"]["cross_section_mb"] / EVENTS
        assert integral / millibarn_per_jet == pytest.approx(sum(found["counts"]), rel=1e-3)
        assert published["histogram"]["jets"][f"R={found['radius']:g}"] == found["jets"]


def test_the_spectrum_falls(histograms: dict[str, Any]) -> None:
    for found in histograms["histograms"]:
        spectrum = found["spectrum_mb_per_gev"]
        assert spectrum[0] > spectrum[2] > spectrum[4] > max(spectrum[6:])


def test_larger_jets_collect_more(histograms: dict[str, Any]) -> None:
    narrow, wide = histograms["histograms"]
    assert narrow["radius"] < wide["radius"]
    assert narrow["jets"] < wide["jets"]


def test_the_picture_is_a_picture_of_some_size(published: dict[str, Any]) -> None:
    data = Path(published["histogram"]["picture"]).read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    assert width >= 1000
    assert height >= 700


def test_the_same_seed_gives_the_same_collisions_however_many(published: dict[str, Any], tmp_path: Path) -> None:
    fewer = EVENTS // 4
    again = run_chain(tmp_path, fewer)
    for first, second in zip(published["cluster"]["jets"], again["cluster"]["jets"], strict=True):
        many, few = (json.loads(Path(path).read_text()) for path in (first, second))
        assert few["events"] == many["events"][:fewer]
