"""Calls a server with an unmodified huggingface_hub, and prints what it got as JSON."""

import json
import sys

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

base, model = sys.argv[1:]


def of(client, text, **parameters):
    found = client.text_classification(text, **parameters)
    return [{"label": it.label, "score": it.score} for it in found]


def error(client, text):
    try:
        client.text_classification(text)
    except HfHubHTTPError as refused:
        return {"status": refused.response.status_code, "message": str(refused)}


named = InferenceClient(model=f"{base}/models/{model}")
print(
    json.dumps(
        {
            "named": of(named, "we love you"),
            "main": of(InferenceClient(model=base), "we love you"),
            "base_url": of(InferenceClient(base_url=base), "we love you"),
            "first": of(named, "worst airline ever, lost my bag", top_k=1),
            "logits": of(named, "we love you", function_to_apply="none"),
            "empty": error(named, " "),
            "unknown": error(InferenceClient(model=f"{base}/models/bert"), "hello"),
        }
    )
)
