"""Draws the completions of a policy at a vLLM server, which is given the adapter anew whenever it has changed.

trl's own way (`use_vllm`) gives a server all weights with the adapter merged into them. Those of a base in 4 bits are
packed bytes, which no server can load, and rounding them anew loses what the adapter adds. So the server holds the same
base in 4 bits, and reads only the adapter, from a folder that both see. Our decision. The formats are those of vLLM's
OpenAI server with `VLLM_ALLOW_RUNTIME_LORA_UPDATING`.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import openai

from reason4rec.errors import InputError
from reason4rec.llm.adapters import ADAPTER_WEIGHTS
from reason4rec.llm.cache import key_of
from reason4rec.llm.client import address_of, key_in
from reason4rec.llm.server import KEY, NO_KEY, RETRIES_AT_FIRST, TIMEOUT
from reason4rec.run.files import sha256

if TYPE_CHECKING:
    from peft import PeftModel

AT_ONCE = 64  # requests
WIDEST_GAP = 0.1  # nats a token; rounding to bf16 gives some hundredths, a base in 16 bits several tenths
ALREADY = "already"  # in vLLM's words, of an adapter that it has loaded


@dataclass(frozen=True)
class Drawn:
    """A completion: its token ids up to the end of the turn, and the log-probability that the server gives each."""

    ids: list[int]
    log_probabilities: list[float]


@dataclass
class DrawServer:
    """A vLLM server at an address such as http://127.0.0.1:8000/v1; `folder` is where it reads adapters from."""

    url: str
    folder: Path
    served: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        try:
            self._client = openai.OpenAI(
                base_url=self.url, api_key=key_in(KEY) or NO_KEY, timeout=TIMEOUT, max_retries=RETRIES_AT_FIRST
            )
            usable = self._client.base_url.scheme in ("http", "https") and self._client.base_url.host
        except Exception:  # the HTTP library has errors of its own for each way in which an address can be wrong
            usable = False
        if not usable:
            raise InputError("--draw_at holds what is no address of a server: set it like http://127.0.0.1:8000/v1")

    def check(self) -> None:
        """InputError unless the server answers."""
        try:
            self._client.models.list()
        except (openai.APIError, ValueError, TypeError, AttributeError) as error:
            raise self._trouble(error) from None

    def give(self, model: "PeftModel") -> str:
        """Lets the server load the adapter of a policy, and let go of the one before; the name that it has there.

        The name is that of the weights, so that a server that has them already, from before a kill, is right too.
        """
        staged = self.folder / "next"
        shutil.rmtree(staged, ignore_errors=True)
        model.save_pretrained(staged, selected_adapters=["default"])
        name = f"policy-{sha256(staged / ADAPTER_WEIGHTS)[:16]}"
        if name == self.served:
            return name
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        staged.rename(place)
        try:
            self._client.post("/load_lora_adapter", body={"lora_name": name, "lora_path": str(place)}, cast_to=str)
        except openai.BadRequestError as error:
            if ALREADY not in str(error):
                raise self._trouble(error) from None
        except openai.NotFoundError:
            raise InputError(
                f"--draw_at {address_of(self.url)}: the server loads no adapters: start vLLM with --enable-lora and "
                f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
            ) from None
        except openai.APIError as error:
            raise self._trouble(error) from None
        self._let_go(self.served)
        self.served = name
        return name

    def draw(
        self,
        name: str,
        prompts: Sequence[Sequence[int]],
        group: int,
        max_new_tokens: int,
        temperature: float,
        ends: Sequence[int],
        seeds: Sequence[int],
    ) -> list[list[Drawn]]:
        """The completions of each prompt, `group` of them, by the adapter of a name; a prompt has a seed of its own."""
        # What the base's generation_config.json says is heeded by a server, and not by what is learned.
        plain = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": list(ends)}
        plain |= {"return_token_ids": True, "skip_special_tokens": False}
        client = self._client.with_options(max_retries=8)

        def ask(asked: tuple[Sequence[int], int]) -> list[Drawn]:
            ids, seed = asked
            try:
                reply = client.completions.create(
                    model=name,
                    prompt=list(ids),
                    n=group,
                    max_tokens=max_new_tokens,
                    temperature=temperature,
                    top_p=1.0,
                    seed=seed,
                    logprobs=0,
                    extra_body=plain,
                )
                choices = sorted(reply.choices, key=lambda choice: choice.index)
                return [_drawn(choice.token_ids, choice.logprobs.token_logprobs, ends) for choice in choices]
            except (openai.APIError, ValueError, TypeError, AttributeError) as error:
                raise self._trouble(error) from None

        with ThreadPoolExecutor(min(AT_ONCE, len(prompts))) as pool:
            found = list(pool.map(ask, zip(prompts, seeds, strict=True)))
        if any(len(of_prompt) != group for of_prompt in found):
            raise InputError(f"--draw_at {address_of(self.url)}: the server wrote fewer than {group} completions")
        return found

    def check_gap(self, found: float) -> float:
        """The gap that was found; InputError where it is so wide that the server draws from another policy."""
        if found > WIDEST_GAP:
            raise InputError(
                f"--draw_at {address_of(self.url)}: its log-probabilities are {found:.2f} nats a token off the "
                f"policy's: serve the base of the adapter, in 4 bits (--quantization bitsandbytes)"
            )
        return found

    def close(self) -> None:
        """Lets the server let go of the adapter."""
        self._let_go(self.served)
        self.served = ""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _let_go(self, name: str) -> None:
        if name:
            try:
                self._client.post("/unload_lora_adapter", body={"lora_name": name}, cast_to=str)
            except openai.APIError as error:
                # It takes room there, and changes nothing that is learned.
                print(f"note: {name} stays loaded: {self._trouble(error)}", flush=True)
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _trouble(self, error: Exception) -> InputError:
        address = address_of(self.url)
        if isinstance(error, openai.APIStatusError):
            return InputError(f"--draw_at {address}: the server refuses ({error.status_code}: {str(error)[:200]})")
        if isinstance(error, openai.APIError):
            return InputError(f"--draw_at {address}: no server answers there ({type(error).__name__}); start it first")
        return InputError(f"--draw_at {address}: its replies have no token ids with log-probabilities; is it a vLLM?")


def gap(model: "PeftModel", prompt: Sequence[int], drawn: Drawn) -> float:
    """How far, in nats a token, the server's log-probabilities of a completion lie from those of the policy itself.

    Both are those of the model as it is, at temperature 1, as vLLM gives them unless it is told otherwise.
    """
    import torch

    ids = torch.tensor([[*prompt, *drawn.ids]], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
    own = logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None])[:, 0].cpu()
    return float((own - torch.tensor(drawn.log_probabilities)).abs().mean())


def seed_of(seed: int, step: int, place: int) -> int:
    """The seed of the prompt at a place of a step, 0 to 2^28 - 1; the same again when a training goes on."""
    return int(key_of(seed=seed, step=step, place=place)[:7], 16)


def _drawn(ids: Sequence[int], log_probabilities: Sequence[float], ends: Sequence[int]) -> Drawn:
    kept = next((k + 1 for k, token in enumerate(ids) if token in ends), len(ids))
    if not kept or len(log_probabilities) < kept:
        raise ValueError("no tokens, or fewer log-probabilities")
    return Drawn(list(ids[:kept]), list(log_probabilities[:kept]))
