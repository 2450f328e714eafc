"""Steps of sparse autoencoders by the trainers of SAELens and of dictionary_learning themselves, from our parameters and
with their own losses, clipping and Adam: `trainers.py sae_lens|dictionary_learning topk|relu K`."""

import importlib.metadata
import sys
import types

import torch
from lines import answer_lines, milliseconds
from serve import TENSORS, Fixture, peak

# dictionary_learning imports it, to read activations out of language models, and it is not installed: see
# integrations/python/readers.py
sys.modules["nnsight"] = types.SimpleNamespace(LanguageModel=None)

from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate  # noqa: E402
from dictionary_learning.trainers.top_k import TopKTrainer  # noqa: E402
from sae_lens import saes  # noqa: E402
from sae_lens.config import SAETrainerConfig  # noqa: E402
from sae_lens.training.sae_trainer import SAETrainer  # noqa: E402

# schedules of the learning rate stay at their start
STEPS = 10**9


class SaeLens:
    """`SAETrainer`, with all that makes its step cost more switched off: no b_dec at the input, no rescaling by norms."""

    def __init__(self, fixture, architecture, k, sparse=False):
        (rows, d_in), d_sae = fixture.x.shape, len(fixture.tensors["b_enc"])
        shared = {"d_in": d_in, "d_sae": d_sae, "apply_b_dec_to_input": False, "decoder_init_norm": None}
        if architecture == "topk":
            settings = {"k": k, "use_sparse_activations": sparse, "rescale_acts_by_decoder_norm": False}
            sae = saes.TopKTrainingSAE(saes.TopKTrainingSAEConfig(**shared, **settings))
        else:
            l1 = fixture.sparsity_weight * d_in
            sae = saes.StandardTrainingSAE(saes.StandardTrainingSAEConfig(**shared, l1_coefficient=l1))
        self.parameters = [getattr(sae, name) for name in TENSORS]
        self.turned = [False] * 4
        self.x = fixture.x
        rate = fixture.learning_rate
        config = SAETrainerConfig(
            total_training_samples=STEPS * rows, train_batch_size_samples=rows, lr=rate, lr_end=rate
        )
        self.trainer = SAETrainer(config, sae, iter(()))

    def step(self):
        self.trainer.maybe_reset_sparsity()
        output = self.trainer.step(self.x)
        self.trainer.n_training_steps += 1
        return output.loss


class DictionaryLearning:
    """`TopKTrainer`, or `StandardTrainerAprilUpdate`, whose L1 penalty weighs by the decoder's norms as ours does."""

    def __init__(self, fixture, architecture, k):
        (_, d_in), d_sae = fixture.x.shape, len(fixture.tensors["b_enc"])
        sizes = {"activation_dim": d_in, "dict_size": d_sae, "layer": 0, "lm_name": "none", "device": "cpu"}
        shared = sizes | {"steps": STEPS, "lr": fixture.learning_rate, "warmup_steps": 0}
        if architecture == "topk":
            self.trainer = TopKTrainer(**shared, k=k)
            b_dec = self.trainer.ae.b_dec
        else:
            l1 = fixture.sparsity_weight * d_in
            self.trainer = StandardTrainerAprilUpdate(**shared, l1_penalty=l1, sparsity_warmup_steps=None)
            b_dec = self.trainer.ae.bias
        encoder, decoder = self.trainer.ae.encoder, self.trainer.ae.decoder
        self.parameters = [encoder.weight, encoder.bias, decoder.weight, b_dec]
        self.turned = [True, False, True, False]
        self.x = fixture.x
        # step 0 would set b_dec to the median of the batch
        self.steps = 0

    def step(self):
        self.steps += 1
        self.trainer.update(self.steps, self.x)


LIBRARIES = {
    "sae_lens": ("SAELens", "sae-lens", SaeLens),
    "dictionary_learning": ("dictionary_learning", "dictionary-learning", DictionaryLearning),
}


def started(peer, fixture):
    """With the fixture's parameters."""
    with torch.no_grad():
        for parameter, turned, given in zip(peer.parameters, peer.turned, fixture.parameters):
            parameter.copy_(given.T if turned else given)
    return peer


def opened(library, architecture, k, fixture):
    """The peer, and how it chose to work: SAELens' codes of topk may be sparse tensors, which is not always faster."""
    _, _, kind = LIBRARIES[library]
    if (library, architecture) != ("sae_lens", "topk"):
        return started(kind(fixture, architecture, k), fixture), None
    times = {}
    for sparse in (False, True):
        peer = started(kind(fixture, architecture, k, sparse), fixture)
        peer.step()
        times[sparse] = min(milliseconds(peer.step) for _ in range(3))
    sparse = times[True] < times[False]
    return started(kind(fixture, architecture, k, sparse), fixture), "sparse codes" if sparse else "dense codes"


def check(peer, fixture):
    """Loss and gradients of its first step, before it clips them, over d_in: its loss sums over the dimensions."""
    (_, d_in), gradients = fixture.x.shape, {}
    hooks = [
        parameter.register_post_accumulate_grad_hook(
            lambda p, name=name: gradients.__setitem__(name, p.grad.detach() / d_in)
        )
        for name, parameter in zip(TENSORS, peer.parameters)
    ]
    # dictionary_learning's `update` does not always give the loss
    before = peer.trainer.loss(fixture.x, step=1).item() if isinstance(peer, DictionaryLearning) else None
    loss = peer.step()
    for hook in hooks:
        hook.remove()
    turned = [gradients[name].T if turn else gradients[name] for name, turn in zip(TENSORS, peer.turned)]
    errors = fixture.errors(turned)
    if isinstance(peer, DictionaryLearning):
        # it takes b_dec from the input, which changes nothing but that gradient, as b_dec is 0
        del errors["b_dec"]
    return {"loss": (float(loss) if before is None else before) / d_in, "errors": errors}


def main(library, architecture, k):
    state = {}

    def command(cmd, **given):
        if cmd == "open":
            torch.set_num_threads(given["threads"])
            state["fixture"] = Fixture(given["fixture"])
            state["peer"], variant = opened(library, architecture, k, state["fixture"])
            name, package, _ = LIBRARIES[library]
            version = f"{importlib.metadata.version(package)} on PyTorch {torch.__version__}"
            return {"ok": True, "name": name, "version": version, "variant": variant}
        if cmd == "check":
            return check(state["peer"], state["fixture"])
        if cmd == "steps":
            return {"ms": [milliseconds(state["peer"].step) for _ in range(given["count"])], "peakBytes": peak()}
        return {"error": f"no such command: {cmd}"}

    answer_lines(command)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
