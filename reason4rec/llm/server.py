"""A model at servers that speak OpenAI's protocol, asked what an in-process model is asked.

The completions API (vLLM, SGLang) gets token ids: those of the in-process path, so that only the server's arithmetic
differs. The chat API gets text, and a reply is refused where the server read another number of tokens than were
counted here. The key comes from REASON4REC_API_KEY. Every reply is on disk before the step goes on. Formats are those
of vLLM 0.33.0's source, and were seen at a real 0.32.0. Our decision.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np
import openai

from reason4rec.errors import InputError, ServerAway
from reason4rec.llm.adapters import ADAPTER_WEIGHTS, adapter_settings
from reason4rec.llm.answers import answers_of
from reason4rec.llm.base import AWAY, progress, windows
from reason4rec.llm.cache import ResponseCache, key_of, of_cuts
from reason4rec.llm.client import address_of, key_in
from reason4rec.llm.patience import Patience
from reason4rec.llm.prompt import OnDemand, Prompt
from reason4rec.llm.served_prompts import Asked, ServedPrompts
from reason4rec.llm.stops import Finish, kept
from reason4rec.llm.tokens import choice_ids, load_tokenizer
from reason4rec.run.files import sha256
from reason4rec.run.network import (
    KEY_OF_AZURE,
    extra_headers,
    is_azure,
    kept_from_others,
    masked,
    network_hint,
)

KEY = "REASON4REC_API_KEY"
HEADERS = "REASON4REC_EXTRA_HEADERS"
TOO_LONG = "maximum context length"  # in vLLM's words
NO_KEY = "none"  # the client insists on one
RETRIES = 8  # of one request, with back-off, and again while the server is away (patience)
RETRIES_AT_FIRST = 2  # a wrong address is told soon
SECONDS_TO_CONNECT = 10
TIMEOUT = openai.Timeout(600, connect=SECONDS_TO_CONNECT)  # seconds, for one reply among many
OF_NO_REQUEST = (401, 403, 404, 429, 502, 503, 504)  # states that say nothing of what was asked


def _text_in(api: str, choice: object, address: str) -> str:
    return ((choice.text if api == "completions" else choice.message.content) or "").strip()


@dataclass
class ServedModel(ServedPrompts):
    """An adapter at servers; its fields are those of `ServedPrompts`."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int = 1024,
        temperature: float = 0.0,
        seed: int = 0,
        what: str = "generating",
        finish: Finish | None = None,
        thoughts: bool = False,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> list[str]:
        """One reply per prompt, in their order: greedy, or drawn by the server with a seed of each prompt's own."""
        options = {"max_tokens": max_new_tokens, "temperature": temperature}
        extra = self._of_template() | ({"top_k": top_k} if top_k else {})

        def request(body: dict) -> dict:
            # Where the model's generation_config.json holds a top_p, a server heeds it; the in-process path does not.
            drawn = {"top_p": top_p, "seed": int(key_of(seed=seed, **body)[:7], 16)}
            return options | ({"extra_body": extra} if extra else {}) | (drawn if temperature > 0 else {})

        def asked_of(window: slice) -> list[Asked]:
            return [self._asked(prompt, "", self.max_length - max_new_tokens) for prompt in prompts[window]]

        self._check(prompts, self.max_length - max_new_tokens, [""] * len(prompts))
        # Kept as the server wrote it, cut where a model in this process is stopped.
        settings = options | {"seed": seed} | of_cuts(top_k, top_p)
        replies = self._answers(len(prompts), asked_of, request, settings, partial(_text_in, self.api), what)
        return answers_of(kept(replies, finish, self.stopped, thoughts), thoughts)

    def choice_probabilities(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[str],
        prefix: str,
        reply_prefixes: Sequence[str] | None = None,
        what: str = "scoring",
        prefix_cache: None = None,
    ) -> np.ndarray:
        """(prompts, choices) probabilities of each choice as the next token after the reply's `prefix`; rows sum to 1.

        They are asked as the tokens' ids where the server takes that (`logprob_token_ids` of vLLM), and are else
        looked for among its `top_logprobs` likeliest tokens. InputError if a choice is not a single token, or if the
        server does not give the log-probability of each.
        """
        columns = choice_ids(self.tokenizer, choices, prefix)
        extra: dict[str, object] = {"logprob_token_ids": columns, "return_tokens_as_token_ids": True}
        rest: list[int] = []
        options: dict[str, object] = {"logprobs": self.top_logprobs}
        if self.api == "chat":
            # A template that trims a message takes the space at its end, so the model is made to write that itself;
            # what makes it takes the same from every choice.
            rest = self._rest(prefix)
            options = {"logprobs": True, "top_logprobs": self.top_logprobs}
            options |= {"logit_bias": {str(id_): 100.0 for id_ in rest}} if rest else {}
            extra |= {"continue_final_message": True, "add_generation_prompt": False} | self._of_template()
        options |= {"max_tokens": len(rest) + 1, "temperature": 0.0, "extra_body": extra}

        begun = OnDemand(lambda text: text + prefix, [""] * len(prompts) if reply_prefixes is None else reply_prefixes)

        def asked_of(window: slice) -> list[Asked]:
            return [self._asked(*pair, self.max_length) for pair in zip(prompts[window], begun[window], strict=True)]

        def weights_of(choice: object, address: str) -> list[float]:
            positions = _positions(choice, self.api)
            if not positions:
                raise InputError(
                    f"the server at {address} returns no log-probabilities, which ratings need: vLLM and SGLang do, "
                    f"transformers serve does not; or leave out --base_url to run the model in this process"
                )
            written = [token for token, _ in positions]
            if len(written) != len(rest) + 1 or any(token not in self._names(id_) for token, id_ in zip(written, rest)):
                raise InputError(
                    f"the server at {address} wrote {''.join(written)!r} where {prefix!r} had to be continued: with "
                    f"--api chat the template decides what the model reads; use --api completions"
                )
            return self._weigh(positions[-1][1], choices, columns, address)

        self._check(prompts, self.max_length, begun)
        kept_under = {"choices": list(choices), "columns": columns, "prefix": prefix}
        found = self._answers(len(prompts), asked_of, lambda _: options, kept_under, weights_of, what, rating=True)
        return np.array(found, dtype=float).reshape(len(prompts), len(choices))

    def read_prefixes(self, prompts: Sequence[Prompt], at_once: int = 1) -> None:
        """Nothing: the server keeps what prompts have in common in its own prefix cache."""

    def _answers(
        self,
        total: int,
        asked_of: Callable[[slice], list[Asked]],
        request: Callable[[dict], dict],
        kept_under: dict,
        read: Callable[[object, str], object],
        what: str,
        rating: bool = False,
    ) -> list:
        """What `read` makes of the replies to what is asked, in its order; each distinct one is asked once, ever.

        `asked_of` gives what is asked in one window of prompts, `request` adds how a reply is to be made. Prompts with
        the same head go to the same server, those of a window one after the other, so that its prefix cache has them.
        """
        answers: dict[str, object] = {}
        wanted: list[str] = []
        patience = Patience(self.patience)

        def ask(key: str, asked: Asked) -> tuple[str, object, int]:
            body = _plain(asked.body)
            value, written = self._ask(patience, asked.client, body | request(body), asked.length, read, rating)
            if self.cache:
                self.cache.put({key: value})
            return key, value, 0 if rating else written

        def take(done: Iterable[Future]) -> None:
            for future in done:
                key, answers[key], written = future.result()
                bar.answered(1, written)

        with progress(what, total) as bar, ThreadPoolExecutor(self.at_once) as pool:
            flying: set[Future] = set()
            try:
                for window in windows(total):
                    batch = asked_of(window)
                    keys = [key_of(model=self.name, asked=_plain(asked.body), **kept_under) for asked in batch]
                    answers |= self.cache.get_all(keys) if self.cache else {}
                    missing = {key: asked for key, asked in zip(keys, batch) if key not in answers}
                    wanted += keys
                    bar.answered(len(keys) - len(missing))
                    answers |= dict.fromkeys(missing)  # begun
                    for key in sorted(missing, key=lambda key: _order(missing[key].body)):
                        if len(flying) >= 2 * self.at_once:
                            done, flying = wait(flying, return_when=FIRST_COMPLETED)
                            take(done)
                        flying.add(pool.submit(ask, key, missing[key]))
                take(as_completed(flying))
            finally:
                patience.over.set()
                pool.shutdown(cancel_futures=True)
        return [answers[key] for key in wanted]

    def _ask(
        self,
        patience: Patience,
        client: openai.OpenAI,
        body: dict,
        length: int,
        read: Callable[[object, str], object],
        rating: bool,
    ) -> tuple[object, int]:
        """What `read` makes of one reply, and the tokens written. InputError where there is none that can be used.

        It is ServerAway where any other request had met the same.
        """
        address, kind = address_of(str(client.base_url)), ServerAway
        api = client.completions if self.api == "completions" else client.chat.completions
        try:
            reply = patience.ask(partial(api.create, model=self.served, **body), address)
            _check_is_no_error(reply, client)
            read_there = (reply.usage and reply.usage.prompt_tokens) or length
            if read_there != length:
                raise InputError(
                    f"the server at {address} read {read_there} tokens where the adapter's tokenizer and template "
                    f"give {length}: serve it with the tokenizer and template of its folder, or use --api completions"
                )
            return read(reply.choices[0], address), (reply.usage and reply.usage.completion_tokens) or 0
        except openai.APIStatusError as error:
            kind = ServerAway if error.status_code in OF_NO_REQUEST else InputError
            trouble = _refusal(error, client, self.served, _hint(error, self, rating))
        except openai.APIError as error:
            trouble = f"cannot be reached ({type(error).__name__}{network_hint(address, error.__cause__ or error)})"
        except InputError:
            raise
        except (ValueError, TypeError, AttributeError, LookupError):
            kind = InputError
            trouble = "does not answer in OpenAI's form: see whether the address must end in /v1"
        raise kind(f"the server at {address} {trouble}; replies so far are kept, run the same command again")


def connect(
    base_url: str,
    served: str,
    adapter: Path,
    max_length: int,
    at_once: int = 64,
    api: str = "completions",
    top_logprobs: int = 20,
    cache: ResponseCache | None = None,
    patience: float = AWAY,
) -> ServedModel:
    """An adapter at the servers of `base_url` (several with commas), which must know it as `served`.

    Tokenizer and keys of kept replies come from the adapter's own folder. A server that is lost later is waited for
    `patience` seconds. InputError if a server is away, refuses the key, or does not serve that name; ServerAway in the
    first two cases. A server without a list of its models (404) is taken at its word.
    """
    key = key_in(KEY) or NO_KEY
    settings = adapter_settings(adapter)
    name = key_of(
        served=served,
        api=api,
        adapter=sha256(adapter / ADAPTER_WEIGHTS),
        base=settings["base_model"],
        base_sha256=settings.get("base_sha256"),
    )
    tokenizer = load_tokenizer(adapter)
    # The client's own retries are not to outlast the patience.
    retries = min(RETRIES, int(patience / SECONDS_TO_CONNECT))
    clients = [_client(url.strip(), key, retries) for url in base_url.split(",") if url.strip()]
    if not clients:
        raise InputError("--base_url names no server: set it like http://127.0.0.1:8000/v1")
    for client in clients:
        _check_name(client, served)
    return ServedModel(clients, served, tokenizer, name, max_length, at_once, api, top_logprobs, cache, patience)


def _client(url: str, key: str, retries: int) -> openai.OpenAI:
    given = extra_headers(HEADERS)
    try:
        client = openai.OpenAI(
            base_url=url.partition("?")[0],
            api_key=key,
            max_retries=retries,
            timeout=TIMEOUT,
            default_query=dict(parse_qsl(urlsplit(url).query)),
            default_headers=given | ({KEY_OF_AZURE: key} if is_azure(url) else {}),
            http_client=openai.DefaultHttpxClient(event_hooks=kept_from_others(urlsplit(url).hostname or "", given)),
        )
        usable = client.base_url.scheme in ("http", "https") and client.base_url.host
    except Exception:  # the HTTP library has errors of its own for each way in which an address can be wrong
        usable = False
    if not usable:
        raise InputError("--base_url holds what is no address of a server: set it like http://127.0.0.1:8000/v1")
    return client


def _check_name(client: openai.OpenAI, served: str) -> None:
    """InputError unless the server knows the name."""
    address, names = address_of(str(client.base_url)), []
    patient = client.with_options(max_retries=RETRIES_AT_FIRST)
    try:
        names = [model.id for model in patient.models.list()]
    except openai.NotFoundError:
        return
    except openai.InternalServerError:
        pass  # transformers serve, where no model was ever downloaded
    except openai.APIStatusError as error:
        raise ServerAway(f"the server at {address} {_refusal(error, client, served, '')}") from None
    except openai.APIError as error:
        raise ServerAway(
            f"the server at {address} cannot be reached ({type(error).__name__}"
            f"{network_hint(address, error.__cause__ or error)}): start it, or mend --base_url"
        ) from None
    except (ValueError, TypeError, AttributeError):
        raise InputError(
            f"the server at {address} does not answer in OpenAI's form: see whether the address must end in /v1"
        ) from None
    # transformers serve lists what was downloaded, not the folder that it serves, but takes that name and no other.
    if served in names or (_takes(patient, served) and not _takes(patient, f"{served}.not")):
        return
    raise InputError(
        f"the server at {address} does not serve {served}, but {', '.join(names[:20]) or 'nothing that it names'}: "
        f"pass --served_model NAME, or serve the adapter under its name (vLLM: --enable-lora --lora-modules "
        f"{served}=FOLDER; a merged model: --served-model-name {served})"
    )


def _takes(client: openai.OpenAI, name: str) -> bool:
    try:
        client.chat.completions.create(model=name, messages=[{"role": "user", "content": "."}], max_tokens=1)
    except openai.APIError:
        return False
    return True


def _hint(error: openai.APIStatusError, model: ServedModel, rating: bool) -> str:
    """What to do about a server's refusal; empty where its own words have to do."""
    status = error.status_code
    if status == 404:
        return ": see --served_model and --api, and whether the address must end in /v1"
    if status == 400 and TOO_LONG in str(error.body):
        return f": let the server read {model.max_length} tokens (vLLM: --max-model-len {model.max_length})"
    if rating and status < 500:
        return (
            ": ratings need log-probabilities, which vLLM and SGLang give and transformers serve does not, and "
            "--top_logprobs at most the server's --max-logprobs"
        )
    if model.api == "completions" and status < 500:
        return ": a server that takes no token ids needs --api chat"
    return ""


def _refusal(error: openai.APIStatusError, client: openai.OpenAI, served: str, hint: str) -> str:
    """What a server's refusal comes to, without the key or password that its own words may repeat."""
    if error.status_code in (401, 403):
        return f"refuses the key ({error.status_code}): set {KEY}"
    body = error.body if isinstance(error.body, dict) else {}
    words = _without_secrets(body.get("message") or body.get("detail") or body.get("error") or "", client)
    body = f" ({words})" if words else ""
    return f"answers {error.status_code} to a request for {served!r}{body}{hint}"


def _check_is_no_error(reply: openai.BaseModel, client: openai.OpenAI) -> None:
    """InputError for an answer of state 200 that holds an error."""
    error = getattr(reply, "error", None) or (reply.object == "error" and reply.model_dump(warnings=False))
    if error:
        words = _without_secrets(error.get("message") if isinstance(error, dict) else error, client)
        address = address_of(str(client.base_url))
        raise InputError(f"the server at {address} answers with an error ({words}); replies so far are kept")


def _without_secrets(said: object, client: openai.OpenAI) -> str:
    """The beginning of what a server says, without a key or a password in it."""
    url = urlsplit(str(client.base_url))
    secrets = ["" if client.api_key == NO_KEY else client.api_key, url.username, url.password]
    secrets += [unquote(url.password or ""), *extra_headers(HEADERS).values(), *map(str, client.default_query.values())]
    return masked(" ".join(str(said).split()), secrets)[:120]


def _positions(choice: object, api: str) -> list[tuple[str, dict[str, float]]]:
    """For each token that was written: how the server names it, and the log-probabilities there by such names."""
    # As plain objects, because servers mix the forms of the two APIs, and leave fields out or set them to null.
    found = choice.model_dump(warnings=False).get("logprobs") or {}
    if entries := found.get("content"):
        return [(entry["token"], _by_name([entry, *(entry.get("top_logprobs") or [])])) for entry in entries]
    tops = found.get("top_logprobs") or []
    maps = [dict(top) if isinstance(top, dict) else _by_name(top or []) for top in tops]
    tokens = found.get("tokens") or [max(one, key=one.get, default="") for one in maps]
    return list(zip(tokens, maps))


def _by_name(entries: Sequence[dict]) -> dict[str, float]:
    return {entry["token"]: entry["logprob"] for entry in entries}


def _plain(body: dict[str, Sequence]) -> dict[str, list]:
    return {name: list(value) for name, value in body.items()}


def _order(body: dict) -> list:
    """What sorts prompts with the same beginning next to each other."""
    return body["prompt"] if "prompt" in body else [message["content"] for message in body["messages"]]
