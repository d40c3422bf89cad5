"""Generate proton-proton collisions with Pythia 6 and write them as HepMC.

usage: generate.py EVENTS SEED ENERGY_GEV OUTPUT.hepmc
"""

from __future__ import annotations

import sys

import chromo
import pyhepmc


def generate(events: int, seed: int, energy: float, output: str) -> None:
    """Write ``events`` inelastic collisions at ``energy`` GeV in the centre-of-mass frame."""
    collisions = chromo.kinematics.CenterOfMass(energy * chromo.constants.GeV, "proton", "proton")
    pythia = chromo.models.Pythia6(collisions, seed=seed)
    with pyhepmc.open(output, "w") as file:
        for number, event in enumerate(pythia(events), start=1):
            file.write(event)
            if number % 100 == 0 or number == events:
                print(f"{number} of {events} events", flush=True)


if __name__ == "__main__":
    count, seed, energy, output = sys.argv[1:]
    generate(int(count), int(seed), float(energy), output)
