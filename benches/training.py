"""The LSTM of crates/model/src/lstm.rs in PyTorch, for benches/training.rs.

Reads a folder: settings.json (sizes and recipe), rows.jsonl (ids and label of each row, from
the encoder in Rust) and, for given word vectors, vectors.f32. Trains, and prints a JSON
object: rows a second, and the losses and accuracy afterwards.

Uses PyTorch efficiently: nn.LSTM, nn.Embedding with sparse gradients, Adam and
SparseAdam. Padding batches and converting them to tensors is not timed here; in Rust it
is.
"""

import json
import random
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

PADDING, UNKNOWN = 0, 1
GROUP_BATCHES = 64
VALIDATION_BATCH_ROWS = 256


class Batch:
    """Rows of ids, padded at the end to the longest."""

    def __init__(self, rows):
        lengths = torch.tensor([len(row["ids"]) for row in rows]).unsqueeze(1)
        longest = int(lengths.max())
        padded = [row["ids"] + [PADDING] * (longest - len(row["ids"])) for row in rows]
        places = torch.arange(longest).unsqueeze(0)
        self.ids = torch.tensor(padded)
        self.padding = (places >= lengths).unsqueeze(2)
        # The place of each step of the backward direction: words in reverse, then padding.
        self.reverse = torch.where(places < lengths, lengths - 1 - places, places)
        self.negative = torch.tensor([float(row["negative"]) for row in rows])


class Network(nn.Module):
    def __init__(self, sizes, vectors):
        super().__init__()
        self.pooling, self.dropout = sizes["pooling"], sizes["dropout"]
        hidden, frozen = sizes["hidden"], sizes["frozen"]
        self.embedding = nn.Embedding(
            sizes["vocabulary"], sizes["embedding"], padding_idx=PADDING, sparse=not frozen
        )
        with torch.no_grad():
            if vectors is None:
                self.embedding.weight.normal_(0, 0.1)[PADDING].zero_()
            else:
                self.embedding.weight.copy_(vectors)
        self.embedding.weight.requires_grad_(not frozen)
        self.directions = nn.ModuleList(
            nn.LSTM(sizes["embedding"], hidden, batch_first=True)
            for _ in range(sizes["directions"])
        )
        for lstm in self.directions:
            nn.init.xavier_uniform_(lstm.weight_ih_l0)
            nn.init.orthogonal_(lstm.weight_hh_l0)
            nn.init.zeros_(lstm.bias_ih_l0)
            lstm.bias_ih_l0.data[hidden : 2 * hidden] = 1.0
            # One bias vector a gate.
            nn.init.zeros_(lstm.bias_hh_l0).requires_grad_(False)
        self.output = nn.Linear(sizes["directions"] * hidden, 2)
        # As tch does it; PyTorch's own first weights are 2.4 times smaller and learn later.
        nn.init.kaiming_uniform_(self.output.weight, nonlinearity="relu")

    def forward(self, ids, batch):
        features = []
        for direction, lstm in enumerate(self.directions):
            read = ids if direction == 0 else ids.gather(1, batch.reverse)
            states, _ = lstm(self.drop(self.embedding(read)))
            if self.pooling == "last":
                features.append(states[:, -1])
            else:
                features.append(states.masked_fill(batch.padding, -torch.inf).amax(1))
        classes = self.output(self.drop(torch.cat(features, 1)))
        return classes[:, 1] - classes[:, 0]

    def drop(self, values):
        return functional.dropout(values, self.dropout, self.training)


def batches(rows, size):
    """Shuffled batches of rows of similar length, like those of monitor-train."""
    order, cut = rows.copy(), []
    random.shuffle(order)
    for start in range(0, len(order), size * GROUP_BATCHES):
        group = sorted(
            order[start : start + size * GROUP_BATCHES], key=lambda row: len(row["ids"])
        )
        cut += [Batch(group[at : at + size]) for at in range(0, len(group), size)]
    random.shuffle(cut)
    return cut


def clip(parameters, norm_max):
    """Like clip_grad_norm_, which does not support sparse gradients."""
    gradients = []
    for parameter in parameters:
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad._values())
        else:
            gradients.append(parameter.grad)
    scale = norm_max / (nn.utils.get_total_norm(gradients) + 1e-6)
    for gradient in gradients:
        gradient.mul_(scale.clamp(max=1.0))


def train(network, rows, recipe):
    """Returns the seconds spent in steps, and the mean loss of the last epoch."""
    dense = [p for p in network.parameters() if p.requires_grad]
    optimizers = []
    if network.embedding.weight.requires_grad:
        dense = [p for p in dense if p is not network.embedding.weight]
        optimizers.append(torch.optim.SparseAdam([network.embedding.weight]))
    optimizers.append(torch.optim.Adam(dense))
    parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    steps_max = -(-len(rows) // recipe["batch_rows"]) * recipe["epochs"]
    network.train()
    seconds, done, steps = 0.0, 0, 0
    for _ in range(recipe["epochs"]):
        cut = batches(rows, recipe["batch_rows"])
        loss_sum = 0.0
        start = time.perf_counter()
        for batch in cut:
            ids = batch.ids
            if recipe["word_dropout"] > 0:
                hidden = (torch.rand(ids.shape) < recipe["word_dropout"]) & (ids > UNKNOWN)
                ids = ids.masked_fill(hidden, UNKNOWN)
            for optimizer in optimizers:
                optimizer.zero_grad()
                for group in optimizer.param_groups:
                    group["lr"] = recipe["learning_rate"] * (1 - steps / steps_max)
            loss = functional.binary_cross_entropy_with_logits(network(ids, batch), batch.negative)
            loss.backward()
            if recipe["gradient_norm_max"] is not None:
                clip(parameters, recipe["gradient_norm_max"])
            for optimizer in optimizers:
                optimizer.step()
            steps += 1
            loss_sum += loss.item() * len(ids)
        seconds += time.perf_counter() - start
        done += len(rows)
    return done / seconds, loss_sum / len(rows)


@torch.no_grad()
def validate(network, rows):
    """Returns mean loss and accuracy."""
    network.eval()
    order = sorted(rows, key=lambda row: len(row["ids"]))
    loss, right = 0.0, 0
    for start in range(0, len(order), VALIDATION_BATCH_ROWS):
        batch = Batch(order[start : start + VALIDATION_BATCH_ROWS])
        logits = network(batch.ids, batch)
        loss += functional.binary_cross_entropy_with_logits(
            logits, batch.negative, reduction="sum"
        ).item()
        right += int(((logits >= 0) == (batch.negative == 1)).sum())
    return loss / len(rows), right / len(rows)


def main():
    folder = Path(sys.argv[1])
    settings = json.loads((folder / "settings.json").read_text())
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    random.seed(settings["seed"])
    rows = {"train": [], "validation": []}
    with open(folder / "rows.jsonl", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            rows[row["side"]].append(row)
    vectors = None
    if (folder / "vectors.f32").exists():
        size = settings["vocabulary"], settings["embedding"]
        flat = torch.from_file(str(folder / "vectors.f32"), size=size[0] * size[1])
        vectors = flat.reshape(size)
    network = Network(settings, vectors)
    rows_per_s, loss = train(network, rows["train"], settings)
    validation_loss, accuracy = validate(network, rows["validation"])
    found = {
        "torch": torch.__version__,
        "rows_per_s": rows_per_s,
        "loss": loss,
        "validation_loss": validation_loss,
        "validation_accuracy": accuracy,
    }
    print(json.dumps(found))


main()
