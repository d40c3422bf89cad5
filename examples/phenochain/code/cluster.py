"""Cluster the visible particles of HepMC events into anti-kt jets, once for each jet radius.

usage: cluster.py EVENTS.hepmc PTMIN_GEV ETAMAX OUTPUT_DIRECTORY RADIUS [RADIUS ...]

For each radius R it writes OUTPUT_DIRECTORY/jets-R.json: what was clustered and, event by event, the jets with their
transverse momentum (GeV), pseudorapidity and azimuth (radians), hardest first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import fastjet
import pyhepmc

NEUTRINOS = {12, 14, 16}
FINAL, BEAM = 1, 4  # HepMC status codes
PICOBARN_PER_MILLIBARN = 1e9


def visible(event: pyhepmc.GenEvent, etamax: float) -> list[fastjet.PseudoJet]:
    """Return what an ideal calorimeter sees: stable particles but neutrinos, within ``abs(eta) < etamax``."""
    seen = []
    for particle in event.particles:
        momentum = particle.momentum
        if particle.status == FINAL and abs(particle.pid) not in NEUTRINOS and abs(momentum.eta()) < etamax:
            seen.append(fastjet.PseudoJet(momentum.px, momentum.py, momentum.pz, momentum.e))
    return seen


def jets(particles: list[fastjet.PseudoJet], radius: float, ptmin: float) -> list[dict[str, float]]:
    """Run the anti-kt algorithm (E scheme) and keep the jets above ``ptmin`` GeV."""
    if not particles:
        return []
    sequence = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.antikt_algorithm, radius))
    found = fastjet.sorted_by_pt(sequence.inclusive_jets(ptmin))
    return [{"pt": jet.pt(), "eta": jet.eta(), "phi": jet.phi_std()} for jet in found]


def cluster(events: str, ptmin: float, etamax: float, radii: list[str]) -> dict[str, dict[str, Any]]:
    """Return one document for each radius."""
    documents: dict[str, dict[str, Any]] = {
        radius: {"algorithm": "anti-kt", "radius": float(radius), "ptmin": ptmin, "etamax": etamax, "events": []}
        for radius in radii
    }
    with pyhepmc.open(events) as file:
        for event in file:
            particles = visible(event, etamax)
            for radius, document in documents.items():
                document["events"].append(jets(particles, float(radius), ptmin))
                document["cross_section_mb"] = event.cross_section.xsec() / PICOBARN_PER_MILLIBARN
                document["energy_gev"] = sum(beam.momentum.e for beam in event.particles if beam.status == BEAM)
    return documents


if __name__ == "__main__":
    events, ptmin, etamax, directory, *radii = sys.argv[1:]
    for radius, document in cluster(events, float(ptmin), float(etamax), radii).items():
        Path(directory, f"jets-{radius}.json").write_text(json.dumps(document), encoding="utf-8")
        number = sum(len(found) for found in document["events"])
        print(f"R = {radius}: {number} jets in {len(document['events'])} events")
