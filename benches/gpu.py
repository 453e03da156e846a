"""The peer of benches/gpu.rs: the same transformer shapes in plain PyTorch, which needs nothing
but torch.

Reads one JSON file: device, half (whether in bfloat16), threads, seconds and rounds of a
measurement, shapes, lengths (tokens of each tweet), and budgets (most tokens of a pass,
with padding). Prints one JSON line about the machine, then one for each measurement: the
seconds of each round over all tweets, or the error.

Uses PyTorch efficiently: fused query, key and value, F.scaled_dot_product_attention, inference
mode, torch.compile, rows sorted by length. Weights and ids are random. Making and padding the
batches is not timed; copying them to the device and the answers back is.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attention, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x, mask):
        rows, longest, width = x.shape
        parts = self.attention(x).view(rows, longest, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.attention_norm(x + self.out(seen.transpose(1, 2).reshape(rows, longest, width)))
        return self.norm(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    def __init__(self, shape):
        super().__init__()
        width = shape["width"]
        self.words, self.places = nn.Embedding(shape["vocabulary"], width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, shape["heads"]) for _ in range(shape["layers"]))
        self.pooler, self.classifier = nn.Linear(width, width), nn.Linear(width, 3)

    def forward(self, ids, mask):
        x = self.norm(self.words(ids) + self.places.weight[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x, mask)
        return self.classifier(torch.tanh(self.pooler(x[:, 0]))).float().softmax(-1)


def batches(lengths, tokens_max, vocabulary):
    """Rows of similar length, longest first: ids, and the mask if a row is padded."""
    made, rows = [], []
    lengths = sorted(lengths, reverse=True)
    for at, length in enumerate(lengths):
        rows.append(length)
        if at + 1 == len(lengths) or rows[0] * (len(rows) + 1) > tokens_max:
            is_token = torch.arange(rows[0]) < torch.tensor(rows)[:, None]
            ids = torch.randint(1, vocabulary, is_token.shape) * is_token
            made.append((ids, None if is_token.all() else is_token[:, None, None, :]))
            rows = []
    return made


def score(model, made, device):
    for ids, mask in made:
        model(ids.to(device), None if mask is None else mask.to(device)).cpu()


def measure(model, made, device, task):
    # The first time, PyTorch meets each shape for the first time, and compiles.
    score(model, made, device)
    ends, rounds = time.perf_counter() + task["seconds"], []
    while len(rounds) < task["rounds"] and (not rounds or time.perf_counter() < ends):
        began = time.perf_counter()
        score(model, made, device)
        rounds.append(time.perf_counter() - began)
    return rounds


def say(**values):
    print(json.dumps(values), flush=True)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        task = json.load(file)
    device = torch.device(task["device"])
    kind = torch.bfloat16 if task["half"] else torch.float32
    torch.set_num_threads(task["threads"])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    say(torch=torch.__version__, cuda=torch.version.cuda, device=name)
    for shape in task["shapes"]:
        eager = Encoder(shape).to(device, kind).eval()
        for compiled in [False, True]:
            model = torch.compile(eager, dynamic=True) if compiled else eager
            for tokens_max in task["budgets"]:
                what = {"shape": shape["name"], "compiled": compiled, "tokens_max": tokens_max}
                try:
                    made = batches(task["lengths"], tokens_max, shape["vocabulary"])
                    with torch.inference_mode():
                        say(**what, seconds=measure(model, made, device, task))
                except Exception as error:
                    say(**what, error=f"{type(error).__name__}: {error}"[:500])
                    break


main()
