"""Loads what Libra wrote with transformers and PEFT. Reads a JSON list of jobs, prints a list of their outputs.

A job: {base, adapters, kind: causal | score, rows: token ids} → the last token's logits, or the score, of each row.
"""
import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

torch.set_num_threads(1)


def run(job):
    if job["kind"] == "score":
        model = AutoModelForSequenceClassification.from_pretrained(job["base"], dtype=torch.float32, num_labels=1)
    else:
        model = AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32)
    for adapter in job["adapters"]:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    with torch.no_grad():
        out = [model(torch.tensor([ids])).logits[0] for ids in job["rows"]]
    return [(row if row.dim() == 1 else row[-1]).tolist() for row in out]


print(json.dumps([run(job) for job in json.load(sys.stdin)]))
