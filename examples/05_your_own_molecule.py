"""A molecule from a PDB file of your own: look before you train, train, and write what to show to others.

Without a file it takes the butane that comes with the library, whose energy the flow learns in seconds.
Run:  python examples/05_your_own_molecule.py [mine.pdb] [--forcefield XML ...] [--quick]
"""

import argparse

import boltzgen as bg
from boltzgen.reporting import basins, examine

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("pdb", nargs="?", help="one molecule, with all its hydrogens")
parser.add_argument("--forcefield", nargs="+", default=["amber14-all.xml", "implicit/obc2.xml"])
parser.add_argument("--minutes", type=float, default=30)
parser.add_argument("--quick", action="store_true", help="a few seconds: shows the way, not the quality")
parser.add_argument("--out", default="runs/mine", help="folder of the run")
options = parser.parse_args()

if options.pdb is None:
    molecule = bg.Molecule.load("butane")
else:
    molecule = bg.Molecule.from_pdb(options.pdb, forcefield=options.forcefield)

# Minutes before hours: every coordinate, the compiled energy against OpenMM, an estimate of the time.
found = examine(molecule)
print(found)
assert found.status != "red", "mend what is red first"

generator = bg.BoltzmannGenerator(molecule)
if options.quick:
    generator.train(steps=60, compile="never", progress=False)
else:
    generator.train(run_dir=options.out, minutes=options.minutes)  # run again: it goes on

samples = generator.sample(2_000 if options.quick else 100_000, seed=1)
print(bg.judge(samples))
for basin in basins(samples):
    where = ", ".join(f"{name} {angle:.0f}°" for name, angle in basin.centre.items())
    print(f"{where or 'one basin':<40} population {basin.population}")

samples.save(f"{options.out}/samples.npz")  # weights, energies, positions: everything
samples.to_mdtraj(resample=500, seed=0).save_pdb(f"{options.out}/frames.pdb")  # equally weighted, to look at
bg.write_report(samples, f"{options.out}/report.html", history=generator.history, figures=f"{options.out}/figures")
print(f"written: {options.out}/report.html, samples.npz, frames.pdb, figures/")
