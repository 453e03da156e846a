"""The peers of benches/classifier.rs: Hugging Face's transformers and ONNX Runtime.

Arguments: a side (transformers, onnx), an order (given, sorted), the model's folder, a file of tweets (one JSON
string per line), the number of threads, the device and the precision (single, half; onnx: single, int8). Tokenises
and scores all of them in batches of 32 in the given order (sorted: in the order of their lengths, which a stream
does not allow), and prints a JSON object: seconds for all, tokens, the negative probability of each
tweet, and the FLOP/s of one large matrix product on the same device.

Uses the libraries efficiently: fast tokenizer, inference mode, padding to the
longest of the batch, layers fused for ONNX Runtime by its own optimizer. int8 is its dynamic quantization, with a
scale for each output of a layer. Loading, exporting, quantizing and a first batch are not timed.
"""

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BATCH_ROWS = 32
MATRIX = {"cpu": 2048, "cuda": 8192}


def matrix_product_rate(device, kind):
    size = MATRIX[device.type]
    a = torch.randn(size, size, device=device, dtype=kind)
    products, best = 8, 0.0
    for _ in range(4):
        wait(device)
        began = time.perf_counter()
        for _ in range(products):
            a @ a
        wait(device)
        best = max(best, products * 2 * size**3 / (time.perf_counter() - began))
    return best


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def negative_among_two(logits, outputs, calibration):
    """The probability of negative if the tweet is not neutral, calibrated as in crates/model."""
    negative, positive = logits[:, outputs["neg"]], logits[:, outputs["pos"]]
    if "neu" not in outputs:
        return torch.sigmoid((negative - positive) / calibration["temperature"])
    neutral = logits[:, outputs["neu"]]
    others = torch.logaddexp(positive, neutral)
    found = torch.sigmoid((negative - others) / calibration["temperature"])
    among_others = torch.sigmoid((positive - neutral) / calibration["positive"]["temperature"])
    return found / (found + (1 - found) * among_others)


def onnx(model, tokenizer, threads, precision):
    import onnxruntime
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    plain, file = (Path(sys.argv[4]).with_name(f"{name}.onnx") for name in ("plain", "model"))
    names = ["input_ids", "attention_mask"]
    one = tokenizer(["one", "two words"], padding=True, return_tensors="pt")
    torch.onnx.export(
        model,
        tuple(one[name] for name in names),
        str(plain),
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "rows", 1: "tokens"} for name in names},
        dynamo=False,
    )
    config = model.config
    heads, width = config.num_attention_heads, config.hidden_size
    optimize_model(str(plain), "bert", num_heads=heads, hidden_size=width).save_model_to_file(str(file))
    if precision == "int8":
        whole, file = file, file.with_name("int8.onnx")
        # The fused layers have no types of their own in the file.
        single = {"DefaultTensorType": TensorProto.FLOAT}
        quantize_dynamic(whole, file, weight_type=QuantType.QInt8, per_channel=True, extra_options=single)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    return lambda batch: torch.from_numpy(
        session.run(["logits"], {name: batch[name].numpy() for name in names})[0]
    )


def main():
    side, order, folder, tweets, threads, device, precision = sys.argv[1:]
    threads, device = int(threads), torch.device(device)
    kind = torch.bfloat16 if precision == "half" else torch.float32
    torch.set_num_threads(threads)
    with open(tweets, encoding="utf-8") as lines:
        texts = [json.loads(line) for line in lines]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    manifest = json.loads(Path(folder, "manifest.json").read_text())
    tokens_max = manifest["architecture"]["tokens_max"]
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    outputs = {name[:3].lower(): int(i) for i, name in model.config.id2label.items()}
    if side == "onnx":
        forward = onnx(model, tokenizer, threads, precision)
    else:
        model.to(device, kind)
        forward = lambda batch: model(**{n: t.to(device) for n, t in batch.items()}).logits

    def score(rows):
        batch = tokenizer(
            rows, padding=True, truncation=True, max_length=tokens_max, return_tensors="pt"
        )
        tokens = int(batch["attention_mask"].sum())
        return tokens, negative_among_two(forward(batch).float(), outputs, manifest["calibration"]).tolist()

    places = list(range(len(texts)))
    with torch.inference_mode():
        score(texts[:BATCH_ROWS])
        wait(device)
        began = time.perf_counter()
        if order == "sorted":
            places.sort(key=lambda place: len(texts[place]))
        tokens, scores = 0, [0.0] * len(texts)
        for at in range(0, len(places), BATCH_ROWS):
            rows = places[at : at + BATCH_ROWS]
            counted, found = score([texts[place] for place in rows])
            tokens += counted
            for place, probability in zip(rows, found):
                scores[place] = probability
        wait(device)
        seconds = time.perf_counter() - began
        rate = matrix_product_rate(device, kind)
    print(json.dumps({"seconds": seconds, "tokens": tokens, "scores": scores, "flops": rate}))


main()
