"""The other side of the bench: PyTorch, transformers and PEFT on the same checkpoints and texts.

Reads one JSON object per line, answers with one. Works: make, score, sft, reward, generate.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
cache = {}


def once(key, make):
    if key not in cache:
        cache.clear()  # one model at a time, as on the other side
        cache[key] = make()
    return cache[key]


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def make(job):
    """A random checkpoint in float32: a causal model, and the same trunk with a score head."""
    torch.manual_seed(1)
    config = LlamaConfig(**job["config"])
    for folder, kind in ((job["lm"], LlamaForCausalLM), (job["rm"], LlamaForSequenceClassification)):
        config.num_labels = 1
        model = kind(config)
        model.save_pretrained(folder)
    return {"parameters": sum(p.numel() for p in model.parameters())}


def encoded(job):
    tokenizer = once_tokenizer(job["model"])
    return [
        tokenizer.apply_chat_template(m, tokenize=True, return_dict=False)[: job["length"]] for m in job["rows"]
    ]


tokenizers = {}


def once_tokenizer(folder):
    if folder not in tokenizers:
        tokenizers[folder] = AutoTokenizer.from_pretrained(folder)
    return tokenizers[folder]


def batches(rows, size):
    """By length, as whoever cares for speed would do it."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for i in range(0, len(order), size):
        yield order[i : i + size]


def padded(rows, pad=0):
    width = max(map(len, rows))
    ids = torch.tensor([r + [pad] * (width - len(r)) for r in rows], device=DEVICE)
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows], device=DEVICE)
    return ids, mask


def classifier(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).to(DEVICE)
    model.config.pad_token_id = 0
    return model


def score(job):
    model = once(("score", job["model"]), lambda: classifier(job["model"]).eval())
    start = time.perf_counter()
    rows = encoded(job)
    scores = [0.0] * len(rows)
    with torch.inference_mode():
        for part in batches(rows, job["batch"]):
            ids, mask = padded([rows[i] for i in part])
            # the last token by hand: a pad id that is also a text id must not be counted out
            hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state
            last = mask.sum(1) - 1
            out = model.score(hidden[torch.arange(len(part), device=DEVICE), last])[:, 0].tolist()
            for i, value in zip(part, out):
                scores[i] = value
    wait()
    return {"seconds": time.perf_counter() - start, "tokens": sum(map(len, rows)), "check": scores[:4]}


def trainable(job, kind):
    def build():
        loader = classifier if kind == "reward" else (
            lambda f: AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32).to(DEVICE)
        )
        model = loader(job["model"])
        if job["lora"]:
            model = get_peft_model(
                model,
                LoraConfig(
                    r=16,
                    lora_alpha=32,
                    target_modules="q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split(),
                    modules_to_save=["score"] if kind == "reward" else None,
                ),
            )
        model.train()
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad], lr=1e-5, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1
        )
        return model, optimizer

    return once((kind, job["model"], job["lora"]), build)


def step(model, optimizer, loss):
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def sft(job):
    model, optimizer = trainable(job, "sft")
    rows, counts = job["ids"], job["counts"]
    times = []
    for i in range(0, len(rows), job["batch"]):
        start = time.perf_counter()
        ids, mask = padded(rows[i : i + job["batch"]])
        counted, _ = padded(counts[i : i + job["batch"]])
        labels = ids.masked_fill(counted == 0, -100)
        loss = step(model, optimizer, model(input_ids=ids, attention_mask=mask, labels=labels).loss)
        wait()
        times.append(time.perf_counter() - start)
    return {"seconds": sum(times), "tokens": sum(map(len, rows)), "check": [loss]}


def reward(job):
    model, optimizer = trainable(job, "reward")
    rows = job["ids"]  # chosen, rejected, chosen, …
    times = []
    for i in range(0, len(rows), 2 * job["batch"]):
        start = time.perf_counter()
        ids, mask = padded(rows[i : i + 2 * job["batch"]])
        inner = model.base_model.model if job["lora"] else model
        hidden = inner.model(input_ids=ids, attention_mask=mask).last_hidden_state
        scores = inner.score(hidden[torch.arange(len(ids), device=DEVICE), mask.sum(1) - 1])[:, 0]
        loss = step(model, optimizer, -torch.nn.functional.logsigmoid(scores[0::2] - scores[1::2]).mean())
        wait()
        times.append(time.perf_counter() - start)
    return {"seconds": sum(times), "tokens": sum(map(len, rows)), "check": [loss]}


def generate(job):
    model = once(
        ("generate", job["model"]),
        lambda: AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).to(DEVICE).eval(),
    )
    ids, mask = padded(job["prompts"])
    start = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            max_new_tokens=job["new"],
            min_new_tokens=job["new"],
            pad_token_id=0,
        )
    wait()
    return {"seconds": time.perf_counter() - start, "tokens": out.shape[0] * (out.shape[1] - ids.shape[1])}


WORKS = {"make": make, "score": score, "sft": sft, "reward": reward, "generate": generate}
name = torch.cuda.get_device_name(0) if DEVICE == "cuda" else "cpu"
print(json.dumps({"ready": f"torch {torch.__version__} on {name}"}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    try:
        reply = WORKS[job["work"]](job)
    except Exception as error:  # the other side must hear of it
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), flush=True)
