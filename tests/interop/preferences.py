"""Loads exported preference pairs with `datasets` and prepares them as TRL's trainers do; prints what is there.
Usage: preferences.py <format> <file>"""
import json, sys
from datasets import load_dataset
from trl import extract_prompt, is_conversational, maybe_apply_chat_template, maybe_extract_prompt
from transformers import AutoTokenizer

form, path, folder = sys.argv[1:]
rows = load_dataset("json", data_files=path, split="train")
tokenizer = AutoTokenizer.from_pretrained(folder)
out = {"columns": sorted(rows.column_names), "rows": len(rows)}
if {"chosen", "rejected"} <= set(rows.column_names):
    example = maybe_extract_prompt({k: rows[0][k] for k in ("prompt", "chosen", "rejected") if k in rows[0]} if form != "ultrafeedback" else {k: rows[0][k] for k in ("chosen", "rejected")})
    out["conversational"] = is_conversational(example)
    text = maybe_apply_chat_template(example, tokenizer)
    out["text"] = {k: text[k] for k in ("prompt", "chosen", "rejected")}
print(json.dumps(out, ensure_ascii=False))
