"""Makes `__test__/neighbours`: model folders and training steps from SAELens, dictionary_learning, sparsify and the
published BAE, by running those libraries.

    node integrations/python/install.mjs
    integrations/python/.venv/bin/python integrations/python/make_fixtures.py --published SOURCE

SOURCE is a checkout of github.com/hc495/Binary_Autoencoder (made with commit 99fbbd7), which is no package. The others
are pinned in requirements.txt; the manifest names the versions that made what is committed. On one machine the files
come out the same each time; on another the last bits of trained numbers may differ.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

import torch

from fixtures import models, steps
from fixtures.common import version, write_json

FOLDER = Path(__file__).parents[2] / "__test__" / "neighbours"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, required=True, help="checkout of hc495/Binary_Autoencoder")
    published = parser.parse_args().published
    if os.environ.get("PYTHONHASHSEED") != "0":
        # SAELens writes keys of cfg.json in the order of a set
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONHASHSEED": "0"})
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for made in ("models", "steps"):
        shutil.rmtree(FOLDER / made, ignore_errors=True)
    manifest = {
        "made_with": [version(name) for name in ("sae-lens", "dictionary-learning", "eai-sparsify", "torch")],
        "models": models.make(FOLDER / "models", published),
        "steps": steps.make(FOLDER / "steps"),
    }
    write_json(FOLDER / "manifest.json", manifest)


if __name__ == "__main__":
    main()
