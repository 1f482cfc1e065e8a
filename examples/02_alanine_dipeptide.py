"""Alanine dipeptide from its PDB file: train, draw, reweight, judge, report.

Run:  python examples/02_alanine_dipeptide.py [--quick]
"""

import argparse

import boltzgen as bg
from boltzgen.units import kT

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="a minute of training: shows the way, not the quality")
parser.add_argument("--out", default="runs/alanine_dipeptide", help="folder of the run")
options = parser.parse_args()

molecule = bg.Molecule.load("alanine_dipeptide")
generator = bg.BoltzmannGenerator(molecule, temperature=300.0)
if options.quick:
    generator.train(minutes=0.5, compile="never")
else:
    generator.train(run_dir=options.out, minutes=10)  # run again: it resumes

samples = generator.sample(10_000 if options.quick else 100_000, seed=1)
print(bg.judge(samples))

phi = samples.torsion("phi")
print("⟨cos φ⟩", bg.expectation(samples.log_w, phi.cos()))

# Beside the values that an hour of replica exchange gave, which come with the system.
for name, estimate in {
    "mean_potential_energy": bg.expectation(samples.log_w, samples.potential * kT(samples.temperature)),
    "free_energy_difference_phi": bg.free_energy_difference(samples.log_w, phi < 0, phi > 0),
}.items():
    known = molecule.reference[name]
    print(f"{name} in {known['unit']}: {estimate}   reference {known['value']} ± {known['standard_error']}")

bg.write_report(samples, f"{options.out}/report.html", reference_values=molecule.reference)
print(f"report: {options.out}/report.html")
