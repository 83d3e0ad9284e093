"""TRL's PPO for bench/ppo.ts: one round for each line of JSON that comes, its seconds in return."""

import json
import os
import sys
import tempfile
import time

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
out = sys.stdout
sys.stdout = sys.stderr  # the trainer prints

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer

job = json.loads(sys.argv[1])
torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
transformers.logging.set_verbosity_error()


def say(reply):
    out.write(json.dumps(reply) + "\n")
    out.flush()


class OneByOne(TrainerCallback):
    def wait(self):
        if not sys.stdin.readline():
            os._exit(0)
        self.started = time.perf_counter()

    def on_train_begin(self, args, state, control, **rest):
        self.wait()

    def on_step_end(self, args, state, control, **rest):
        tokens = job["prompts"] * job["new"]
        say({"seconds": time.perf_counter() - self.started, "tokens": tokens})
        self.wait()


def scorer():
    return AutoModelForSequenceClassification.from_pretrained(job["rm"], num_labels=1, dtype=torch.float32)


tokenizer = AutoTokenizer.from_pretrained(job["lm"], padding_side="left")
tokenizer.pad_token_id = job["pad"]
policy = AutoModelForCausalLM.from_pretrained(job["lm"], dtype=torch.float32)
config = PPOConfig(
    output_dir=tempfile.mkdtemp(),
    per_device_train_batch_size=job["prompts"],
    num_mini_batches=1,
    local_rollout_forward_batch_size=job["prompts"],
    total_episodes=job["prompts"] * 1000,
    num_ppo_epochs=job["epochs"],
    response_length=job["new"],
    temperature=1.0,
    learning_rate=1e-5,
    num_sample_generations=0,
    save_strategy="no",
    report_to="none",
    use_cpu=not torch.cuda.is_available(),
    bf16=False,
    gradient_checkpointing=False,
)
trainer = PPOTrainer(
    args=config,
    processing_class=tokenizer,
    model=policy,
    ref_model=AutoModelForCausalLM.from_pretrained(job["lm"], dtype=torch.float32),
    reward_model=scorer(),
    value_model=scorer(),
    train_dataset=Dataset.from_dict({"input_ids": job["ids"]}),
    eval_dataset=Dataset.from_dict({"input_ids": job["ids"][:8]}),
    callbacks=[OneByOne()],
)
say({"ready": f"TRL {trl.__version__}, torch {torch.__version__}"})
trainer.train()
