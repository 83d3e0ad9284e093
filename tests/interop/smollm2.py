"""argv: a folder of SmolLM2, JSON of chats → what transformers says greedily after each, with its log-probabilities."""
import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_grad_enabled(False)
folder, chats = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
answers = []
for chat in chats:
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    whole = model.generate(ids, max_new_tokens=32, do_sample=False)
    n = ids.shape[1]
    logprobs = model(whole).logits[0].log_softmax(-1)
    said = whole[0, n:].tolist()
    answers.append({
        "prompt_tokens": n,
        "ids": said,
        "logprobs": [logprobs[n + i - 1, token].item() for i, token in enumerate(said)],
    })
print(json.dumps(answers))
