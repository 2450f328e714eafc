"""What others pay for hidden states at which error: TopK autoencoders and principal components, both with quantised values.

Coders, their centre and scale and what their quantised values decode to come from the rows that are not held out; bits and
errors are those of the rows held out. A value v becomes round(v / step), an integer; each integer decodes to the mean of the
training values that share it. Rates are entropies in bits a row, with frequencies counted on the rows held out, as an ideal
code spends that takes each feature or component for itself. For components that is the sum of H(integer). For TopK it is the sum
over features of H(active) + P(active) H(integer | active), active where the integer is not 0. A feature is active in too few
rows to have a distribution of its integers counted (one value alone has entropy 0), so all features share one.
"""

import math
import time

import torch
from lines import answer_lines
from safetensors import safe_open

QUANTISER_STEPS = [2 ** (exponent / 3) for exponent in range(-3, 12)]


def main():
    rows = {}

    def command(cmd, **given):
        if cmd == "open":
            torch.set_num_threads(given["threads"])
            rows.update(zip(("train", "test"), split(given["states"], given["heldOut"])))
            return {"version": f"PyTorch {torch.__version__}"}
        coders = {"pca": components, "topk": top_k, "nearest": nearest}
        return coders[cmd](**rows, **given)

    answer_lines(command)


def split(path, held_out):
    """Rows `[n, d_in]` to train on and rows held out, about the mean of the first, in units of their root mean square."""
    with safe_open(path, framework="pt") as file:
        states = file.get_tensor("hidden_states").float()
    is_held_out = torch.zeros(len(states), dtype=torch.bool)
    is_held_out[held_out] = True
    train, test = states[~is_held_out], states[is_held_out]
    centre = train.mean(0)
    scale = (train - centre).square().mean().sqrt()
    return (train - centre) / scale, (test - centre) / scale


def nearest(train, test):
    """The nearest training row, named among all of them: what learning by heart is worth."""
    decoded = train[torch.cdist(test, train).argmin(1)]
    return {"bits": math.log2(len(train)), "fvu": fvu(test, decoded)}


def components(train, test):
    _, _, directions = torch.linalg.svd(train.double(), full_matrices=False)
    code = lambda rows: (rows.double() @ directions.T).float()
    decode = lambda values: (values.double() @ directions).float()
    return {"points": points(code(train), code(test), decode, train, test, by_column)}


def top_k(train, test, k, d_sae, steps, batch, learning_rate):
    """Gao et al. 2024, "Scaling and evaluating sparse autoencoders": decoder = encoderᵀ at the start, unit rows in the decoder, and
    idle features trained on what is left (AuxK). Adam, the rate rising over a tenth and falling along half a cosine. Kept is what
    was best on the rows held out, measured every twenty steps: they are few and it learns the others by heart."""
    began = time.perf_counter()
    d_in = train.shape[1]
    generator = torch.Generator().manual_seed(0)
    w_dec = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=generator), dim=1)
    parameters = [w_dec.T.clone(), torch.zeros(d_sae), w_dec, torch.zeros(d_in)]
    for parameter in parameters:
        parameter.requires_grad_()
    adam = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    idle, best = torch.zeros(d_sae), (math.inf, None, 0)
    auxiliary = min(2 * k, d_sae)

    def strongest(z, count):
        values, at = z.topk(count, dim=1, sorted=False)
        return values.relu(), at

    def decode_active(values, at):
        return torch.nn.functional.embedding_bag(at, parameters[2], mode="sum", per_sample_weights=values)

    def active(rows):
        w_enc, b_enc, _, b_dec = parameters
        return strongest(torch.addmm(b_enc, rows - b_dec.detach(), w_enc), k)

    def code(rows):
        values, at = active(rows)
        return torch.zeros(len(rows), d_sae).scatter(1, at, values)

    def decode(h):
        return h @ parameters[2] + parameters[3]

    order, first = torch.randperm(len(train), generator=generator), 0
    for step in range(steps):
        if first + batch > len(order):
            order, first = torch.randperm(len(train), generator=generator), 0
        x = train[order[first : first + batch]]
        first += batch
        w_enc, b_enc, w_dec, b_dec = parameters
        z = torch.addmm(b_enc, x - b_dec.detach(), w_enc)
        values, at = strongest(z, k)
        residual = x - (decode_active(values, at) + b_dec)
        loss = residual.square().mean()
        dead = idle > 10 * len(train)
        if dead.sum() > auxiliary:
            helped = decode_active(*strongest(z.masked_fill(~dead, -math.inf), auxiliary))
            loss = loss + (residual.detach() - helped).square().mean() / 32
        adam.zero_grad()
        loss.backward()
        warm, progress = (step + 1) / (0.1 * steps), step / steps
        for group in adam.param_groups:
            group["lr"] = learning_rate * min(warm, 0.5 + 0.5 * math.cos(math.pi * progress))
        adam.step()
        with torch.no_grad():
            w_dec.div_(w_dec.norm(dim=1, keepdim=True))
            idle += batch
            idle[at[values > 0]] = 0
            if step % 20 == 19 or step == steps - 1:
                error = fvu(test, decode_active(*active(test)) + b_dec)
                if error < best[0]:
                    best = error, [parameter.clone() for parameter in parameters], step + 1
    parameters = best[1]
    with torch.no_grad():
        codes = code(train), code(test)
        return {
            "seconds": round(time.perf_counter() - began),
            "bestStep": best[2],
            "neverOn": int((codes[0] == 0).all(0).sum()),
            # before quantising
            "fvu": best[0],
            "trainFvu": fvu(train, decode(codes[0])),
            "points": points(*codes, decode, train, test, shared),
        }


def points(train_code, test_code, decode, train, test, rate):
    """Bits and error at each step of the quantiser."""
    found = []
    for step in QUANTISER_STEPS:
        cells, test_cells = ((code / step).round().int() for code in (train_code, test_code))
        low = min(cells.min(), test_cells.min()).item()
        count = max(cells.max(), test_cells.max()).item() - low + 1
        places = (cells - low).flatten().long()
        taken = torch.bincount(places, minlength=count)
        sums = torch.bincount(places, weights=train_code.flatten().double(), minlength=count)
        middles = step * torch.arange(low, low + count)
        centroids = torch.where(taken > 0, sums / taken.clamp(min=1), middles).float()
        if low <= 0:
            centroids[-low] = 0  # what is not active adds nothing
        decoded = decode(centroids[(test_cells - low).long()])
        found.append({"step": step, "fvu": fvu(test, decoded), "bits": rate(test_cells)})
    return found


def by_column(cells):
    """The entropy of each column's integers, in bits a row."""
    return sum(entropy(column.unique(return_counts=True)[1]) for column in cells.T)


def shared(cells):
    """The entropy of which are active, column by column, and of the integers of those that are, from one distribution."""
    rows, active = len(cells), cells != 0
    counts = active.sum(0)
    bits = sum(entropy(torch.stack([count, rows - count])) for count in counts)
    values = cells[active]
    return bits + len(values) / rows * entropy(values.unique(return_counts=True)[1])


def entropy(count):
    p = count[count > 0].double() / count.sum().clamp(min=1)
    return -(p * p.log2()).sum().item() + 0.0


def fvu(x, decoded):
    return ((x - decoded).square().sum() / (x - x.mean(0)).square().sum()).item()


if __name__ == "__main__":
    main()
