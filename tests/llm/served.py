"""A server on loopback that answers from a tiny model in the formats of vLLM 0.33.0, and can be made to misbehave.

Texts and log-probabilities come from plain forward passes of one prompt over the whole vocabulary, not from the code
under test.
"""

import json
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from reason4rec.demo import stand_in
from reason4rec.llm.local import LocalModel
from reason4rec.llm.tokens import load_tokenizer
from reason4rec.run.files import sha256
from reason4rec.training.recipe import TARGET_MODULES

KEY = "sk-qzjxv-WKVZQ-xjqkz-QVVKX"
OPTIONS = frozenset({"logprob_token_ids", "return_tokens_as_token_ids"})


class Handler(stand_in._Handler):
    """The routes of vLLM that are needed here; `mood(path, body, number)` may give a status and content instead."""

    def do_GET(self):  # noqa: N802
        server = self.server
        if server.names is None:
            self._send(404, {"detail": "Not Found"})
        elif isinstance(server.names, int):
            self._send(server.names, {"detail": "in no mood"})
        elif self._is_allowed():
            self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in server.names]})

    def do_POST(self):  # noqa: N802
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body, path, server = json.loads(raw), self.path.removeprefix("/v1/"), self.server
        with server.lock:
            server.asked.append((path, body))
            number = len(server.asked)
        instead = server.mood(path, body, number) if server.mood else None
        if instead == "hang up":
            self.close_connection = True
        elif instead:
            self._send(*instead)
        elif not self._is_allowed():
            return
        elif body["model"] not in server.knows:
            self._send(404, _error(f"The model `{body['model']}` does not exist."))
        else:
            try:
                with server.lock:
                    answer = server.completion(body) if path == "completions" else server.chat(body)
            except Exception as error:  # a client would ask again and again where nothing answers
                answer = 400, _error(repr(error))
            self._send(*answer)

    def end_headers(self):
        self.send_header("Retry-After", "0")
        super().end_headers()

    def _is_allowed(self):
        if self.headers["Authorization"] == f"Bearer {KEY}":
            return True
        self._send(401, _error(f"wrong key, not {KEY}"))
        return False


class Server(ThreadingHTTPServer):
    """Serves a model under names; what it does not heed of `OPTIONS` it ignores, as a server of another make would.

    `names` are listed (None: no such route; a number: that status), `knows` are those it takes. At most `max_logprobs`
    may be asked for and `gives` are given, None for none at all. `template` replaces the tokenizer's own.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, model: LocalModel, names=("Predictor",), heeds=OPTIONS, mood=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.names, self.knows, self.heeds, self.mood = model, names, names or (), heeds, mood
        self.max_logprobs, self.gives, self.template = 20, 10_000, None
        self.asked, self.lock = [], threading.Lock()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def completion(self, body):
        if not isinstance(body["prompt"], list):
            return 400, _error("the tests send token ids")
        trouble = self._refuses(body, body.get("logprobs"))
        if trouble:
            return trouble
        written, logs = self._write(body["prompt"], body)
        logprobs = None
        if body.get("logprobs") is not None and self.gives is not None:
            found = [self._likeliest(body, token, row, body["logprobs"], 1) for token, row in zip(written, logs)]
            logprobs = {
                "tokens": [self._name(body, token) for token in written],
                "token_logprobs": [float(row[token]) for token, row in zip(written, logs)],
                "top_logprobs": [{self._name(body, token): value for token, value in tops.items()} for tops in found],
                "text_offset": [0] * len(written),
            }
        text = self.model.tokenizer.decode(written, skip_special_tokens=True)
        return self._reply(body, "text_completion", body["prompt"], written, {"text": text, "logprobs": logprobs})

    def chat(self, body):
        trouble = self._refuses(body, body.get("top_logprobs"))
        if trouble:
            return trouble
        tokenizer = self.model.tokenizer
        ids = tokenizer.apply_chat_template(
            body["messages"],
            chat_template=self.template or tokenizer.chat_template,
            add_generation_prompt=body.get("add_generation_prompt", True),
            continue_final_message=body.get("continue_final_message", False),
            return_dict=False,
        )
        written, logs = self._write(ids, body)
        logprobs = None
        if body.get("logprobs") and self.gives is not None:
            logprobs = {"content": []}
            for token, row in zip(written, logs):
                entry = {"token": self._name(body, token), "logprob": float(row[token]), "bytes": None}
                tops = self._likeliest(body, token, row, body.get("top_logprobs") or 0, 0)
                entry["top_logprobs"] = [
                    {"token": self._name(body, token), "logprob": value, "bytes": None} for token, value in tops.items()
                ]
                logprobs["content"].append(entry)
        message = {"role": "assistant", "content": tokenizer.decode(written, skip_special_tokens=True)}
        return self._reply(body, "chat.completion", ids, written, {"message": message, "logprobs": logprobs})

    def _write(self, ids, body):
        """Tokens written after `ids`, and per token the (vocabulary,) log-probabilities at its place."""
        temperature = body.get("temperature", 1.0)
        drawn = temperature > 0
        torch.manual_seed(body.get("seed") or 0)
        with torch.inference_mode():
            output = self.model.model.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=body["max_tokens"],
                do_sample=drawn,
                temperature=temperature if drawn else None,
                top_p=body.get("top_p") if drawn else None,
                top_k=0 if drawn else None,
                pad_token_id=self.model.tokenizer.pad_token_id,
                sequence_bias={(int(id_),): value for id_, value in body.get("logit_bias", {}).items()} or None,
                return_dict_in_generate=True,
                output_logits=True,
            )
        logs = [logits[0].double().log_softmax(-1) for logits in output.logits]
        return output.sequences[0, len(ids) :].tolist(), logs

    def _likeliest(self, body, sampled, row, most, more):
        """The log-probabilities at a place by token, the sampled one first; `more` than were asked for may be given."""
        chosen = body.get("logprob_token_ids") if "logprob_token_ids" in self.heeds else None
        most = min(most, self.gives)
        tokens = list(dict.fromkeys([sampled, *(chosen or row.topk(most).indices.tolist())]))
        return {token: float(row[token]) for token in (tokens if chosen else tokens[: most + more])}

    def _name(self, body, token):
        as_id = body.get("return_tokens_as_token_ids") and "return_tokens_as_token_ids" in self.heeds
        return f"token_id:{token}" if as_id else self.model.tokenizer.decode([token])

    def _refuses(self, body, wanted):
        chosen = body.get("logprob_token_ids") if "logprob_token_ids" in self.heeds else None
        if chosen and not body.get("logprobs"):
            return 400, _error("when using `logprob_token_ids`, `logprobs` must be set.")
        if not chosen and wanted and wanted > self.max_logprobs:
            return 400, _error(
                f"Requested sample logprobs of {wanted}, which is greater than max allowed: {self.max_logprobs}"
            )
        return None

    def _reply(self, body, kind, ids, written, content):
        reply = {"id": "reply", "object": kind, "created": 0, "model": body["model"]}
        reason = "length" if len(written) == body["max_tokens"] else "stop"
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(written), "total_tokens": len(ids) + len(written)}
        return 200, reply | {"choices": [{"index": 0, "finish_reason": reason} | content], "usage": usage}


def _error(message):
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}


def put_adapter(folder: Path, base: str, lm_head: bool, size: float = 0.02) -> Path:
    """Saves an adapter that changes what the base says, as the trainer does; its folder."""
    torch.manual_seed(1)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(
            r=8,
            lora_alpha=16,
            target_modules=list(TARGET_MODULES),
            modules_to_save=["lm_head"] if lm_head else None,
            task_type="CAUSAL_LM",
        ),
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            parameter.data += size * torch.randn_like(parameter)
    model.save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
    settings = {"base_model": base, "base_sha256": sha256(Path(base)), "max_length": 1024}
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder
