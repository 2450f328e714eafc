"""Our models in the libraries of others. `make_models.mjs` trains them and says what they must give."""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file

import readers

HERE = Path(__file__).parent
NEIGHBOURS = HERE.parents[1] / "__test__" / "neighbours"

ours = tempfile.TemporaryDirectory()
MADE = json.loads(subprocess.check_output(["node", HERE / "make_models.mjs", ours.name]))
MODELS = MADE["models"]
# the published BAE is no package that could read its file
FIXTURES = [
    model
    for model in json.loads((NEIGHBOURS / "manifest.json").read_text())["models"]
    if model["library"] != "published"
]


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest value there is."""
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def given(model: dict, name: str) -> torch.Tensor:
    values = np.fromfile(Path(model["folder"], f"{name}.f32"), "<f4")
    return torch.from_numpy(values.reshape(MADE["rows"], -1))


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    """Hidden states that our models have seen, [rows, d_in]."""
    (states,) = load_file(MADE["data"]).values()
    return states[: MADE["rows"]].float()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model['library']}-{model['name']}")
@torch.no_grad()
def test_ours_give_the_same_there(model: dict, x: torch.Tensor) -> None:
    activations, reconstruction = given(model, "activations"), given(model, "reconstruction")
    encode, reconstruct = getattr(readers, model["library"])(Path(model["folder"]))
    steady = readers.steady(encode, x)
    assert steady.float().mean() > 0.8
    assert 0 < (activations != 0).float().mean() < 1
    close(encode(x)[steady], activations[steady])
    close(reconstruct(x)[steady], reconstruction[steady])


@pytest.mark.parametrize("model", FIXTURES, ids=lambda model: model["folder"].removeprefix("models/"))
@torch.no_grad()
def test_the_fixtures_are_what_the_libraries_give(model: dict) -> None:
    folder = NEIGHBOURS / model["folder"]
    reader = model["library"] + ("_checkpoint" if model.get("checkpoint") else "")
    encode, reconstruct = getattr(readers, reader)(folder)
    expected = load_file(folder / "expected.safetensors")
    close(encode(expected["x"]), expected["activations"])
    close(reconstruct(expected["x"]), expected["reconstruction"])


@pytest.fixture
def bae() -> SAE:
    return SAE.load_from_disk(next(model["folder"] for model in MODELS if model["name"] == "bae"))


def test_nan_is_no_bit(bae: SAE) -> None:
    with pytest.raises(ValueError, match="NaN"):
        bae.encode(torch.full((1, bae.cfg.d_in), torch.nan))


def test_decoder_norms_are_not_folded(bae: SAE) -> None:
    with pytest.raises(NotImplementedError, match="bit"):
        bae.fold_W_dec_norm()


def test_saved_by_sae_lens_and_loaded_again(bae: SAE, x: torch.Tensor, tmp_path: Path) -> None:
    bae.save_model(tmp_path)
    again = SAE.load_from_disk(tmp_path)
    assert again.cfg.training == bae.cfg.training and bae.cfg.training
    assert torch.equal(again(x), bae(x))
