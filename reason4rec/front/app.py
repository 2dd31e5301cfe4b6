"""The page and the API over the experts of a finished run.

A question is checked when it comes in, waits in one line with those of all others, and is answered with what it alone
asked for. No text that a visitor writes is kept or logged; the summaries of the last reviews stay in memory until the
server ends.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException

from reason4rec.data.catalog import DEMO
from reason4rec.errors import LONGEST, InputError, ServerAway
from reason4rec.front import bodies
from reason4rec.front.guard import ENDING, Guard
from reason4rec.front.line import Closed, Full, Job, Line
from reason4rec.front.log import logger, without_message
from reason4rec.llm.prompt import TooLong
from reason4rec.run.html import filled, policy_of
from reason4rec.run.network import LOOPBACK
from reason4rec.systems.reason4rec.asking.questions import Answer, Question, checked
from reason4rec.systems.reason4rec.asking.recommender import ranked
from reason4rec.systems.reason4rec.asking.spoken_of import as_data

if TYPE_CHECKING:
    from reason4rec.systems.reason4rec.asking.recommender import Recommender

PAGE = Path(__file__).with_name("page.html")
FOUND = 20  # users or items of a search
CLIENT_GONE = 499  # nobody reads it
TROUBLE = {code: {"model": bodies.Trouble} for code in (400, 404, 413, 415, 422, 429, 503, 504)}
Words = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True)
class Settings:
    """How the experts are served: `hosts` are the names by which the server may be called, any address too where it
    listens at `any_address`; at most `queue` questions wait, each for `timeout` seconds."""

    dataset: str
    hosts: Collection[str] = LOOPBACK
    any_address: bool = False
    queue: int = 256
    timeout: float = 120.0


def app_of(recommender: "Recommender", settings: Settings) -> FastAPI:
    """The app that answers with a recommender; `app.state.line` is the line in which questions wait."""
    line: Line[Question, Answer] = Line(recommender.explain_all, settings.queue)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        line.open()
        yield
        await asyncio.to_thread(line.close)

    app = FastAPI(
        title=f"Reason4Rec on {settings.dataset}",
        description="What the experts of a finished run say of a user and an item.",
        lifespan=lifespan,
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
        # It would hand on the bodies of requests.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.line = line
    app.add_middleware(Guard, hosts=frozenset(settings.hosts), any_address=settings.any_address)
    _tell_troubles(app)
    _show(app, recommender, settings, line)
    _answer(app, recommender, settings, line)
    return app


def _show(app: FastAPI, recommender: "Recommender", settings: Settings, line: Line) -> None:
    """What needs no expert: the page, the state of the server, the searches."""
    known = recommender.known
    about = {
        "dataset": settings.dataset,
        "model": recommender.model,
        "made_up": settings.dataset == DEMO,
        "users": len(known.users),
        "items": len(known.items),
    }
    template = PAGE.read_text(encoding="utf-8")
    page = filled(template, about)
    policy = f"{policy_of(template)}; connect-src 'self'; frame-ancestors 'none'"

    @app.get("/", response_class=HTMLResponse, summary="the page")
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    @app.get("/favicon.ico", include_in_schema=False)
    async def show_no_icon() -> Response:
        return Response(status_code=204)

    @app.get("/health", response_model=bodies.Health, responses={503: {"model": bodies.Health}})
    async def health(response: Response) -> dict:
        if not line.is_open:
            response.status_code = 503
        about = {"dataset": settings.dataset, "model": recommender.model, "asking_since": line.asking_since}
        return about | {"status": "ok" if line.is_open else "closed", "waiting": line.waiting, "queue": settings.queue}

    # In threads: a large catalogue takes a while to go through.
    @app.get("/api/users", response_model=bodies.FoundUsers, responses={422: TROUBLE[422]})
    def find_users(q: Words = "") -> dict:
        return {"users": known.found_users(q, FOUND)}

    @app.get("/api/items", response_model=bodies.FoundItems, responses={422: TROUBLE[422]})
    def find_items(q: Words = "") -> dict:
        return {"items": known.found_items(q, FOUND)}


def _answer(app: FastAPI, recommender: "Recommender", settings: Settings, line: Line) -> None:
    """What the experts are asked for."""
    known = recommender.known

    def question_in(body: bodies.Explain) -> Question:
        _check_known(known.user, body.user_id)
        _check_known(known.item, body.item_id)
        return checked(body.question(), known)

    def user_in(body: bodies.Asker, items: Sequence[str] = ()) -> Question:
        """The user of a question, checked, beside an item that stands for any."""
        _check_known(known.user, body.user_id)
        for item in items:
            _check_known(known.item, item)
        return checked(Question(user_id=body.user_id, title="any", user_reviews=body.reviews()), known)

    async def answers_to(request: Request, questions: Sequence[Question]) -> list[Answer]:
        return await _waited_for(request, line, Job(questions), settings.timeout)

    # Checks are made in threads: ids near one that is not known take a while to find.
    @app.post("/api/explain", response_model=bodies.Said, responses=TROUBLE)
    async def explain(request: Request, body: bodies.Explain) -> dict:
        """The rating of one item by one user, with the reason and the histories that it rests on."""
        question = await asyncio.to_thread(question_in, body)
        (answer,) = await asyncio.to_thread(_plain, await answers_to(request, [question]))
        return answer

    @app.post("/api/rank", response_model=bodies.SaidOfMany, responses=TROUBLE)
    async def rank(request: Request, body: bodies.Rank) -> dict:
        """The answers for several items and one user, the highest rating first."""
        user = await asyncio.to_thread(user_in, body, body.item_ids)
        questions = recommender.to_rank(user.user_id, body.item_ids, user.user_reviews)
        return {"answers": await asyncio.to_thread(_plain, ranked(await answers_to(request, questions)))}

    @app.post("/api/recommend", response_model=bodies.SaidOfMany, responses=TROUBLE)
    async def recommend(request: Request, body: bodies.Recommend) -> dict:
        """Items that the user has not reviewed, the highest rating first."""
        user = await asyncio.to_thread(user_in, body)
        questions, note = await asyncio.to_thread(recommender.to_recommend, user.user_id, user.user_reviews)
        answers = ranked(await answers_to(request, questions), body.k, note)
        return {"answers": await asyncio.to_thread(_plain, answers)}


async def _waited_for(request: Request, line: Line, job: Job, seconds: float) -> list[Answer]:
    """The answers to a job, unless the time is over or the visitor has gone before."""
    future = asyncio.wrap_future(line.put(job).future)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({future, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        if gone.done():
            raise HTTPException(CLIENT_GONE, "the client has gone")
        raise HTTPException(504, f"no answer within {seconds:g} s; ask again later")
    except TooLong:
        raise HTTPException(422, "the question is too long for the experts, even without the reviews") from None
    except InputError as error:
        # The question was checked, so this is about the run or its servers, which a visitor need not know.
        may_repeat = any(one.is_private for one in job.questions) and not isinstance(error, ServerAway)
        logger.error("not answered: %s", without_message(error) if may_repeat else error)
        raise HTTPException(503, "the experts cannot answer now; whoever runs this server sees why") from error
    finally:
        gone.cancel()
        future.cancel()
        job.give_up()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _plain(answers: Iterable[Answer]) -> list[dict]:
    """Answers as data, which takes a while for long histories."""
    return list(map(as_data, answers))


def _check_known(find: Callable[[str], str], given: str | None) -> None:
    try:
        if given is not None:
            find(given)
    except InputError as error:
        raise HTTPException(404, str(error)) from None


def _tell_troubles(app: FastAPI) -> None:
    """Every error as JSON with one line."""

    def said(status: int, words: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": " ".join(words.split())[:LONGEST]}, status, headers)

    @app.exception_handler(AnyHTTPException)
    async def of_http(request: Request, error: AnyHTTPException) -> JSONResponse:
        words = {404: "no such address; /openapi.json lists them", 405: f"{request.method} is not for this address"}
        usual = error.detail in ("Not Found", "Method Not Allowed")
        if error.detail == "There was an error parsing the body":
            return said(400, "the body is not JSON in UTF-8")
        return said(error.status_code, words[error.status_code] if usual else error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def of_shape(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return said(400, f"the body is not JSON: {first['ctx']['error'].lower()}")
        # The value itself is not repeated: it may be a whole review.
        where = ": ".join(_named(first["loc"][1:]))
        return said(422, f"{where or 'the body'}: {first['msg'][:1].lower()}{first['msg'][1:]}")

    @app.exception_handler(InputError)
    async def of_content(request: Request, error: InputError) -> JSONResponse:
        return said(422, str(error))

    @app.exception_handler(Full)
    async def of_full(request: Request, error: Full) -> JSONResponse:
        words = f"too many questions wait; ask again in {error.seconds} s"
        return said(429, words, {"Retry-After": str(error.seconds)})

    @app.exception_handler(Closed)
    async def of_closed(request: Request, error: Closed) -> JSONResponse:
        return said(503, ENDING)


def _named(place: Sequence[str | int]) -> Iterable[str]:
    """The parts of a place in a body, as whoever wrote it counts."""
    for before, one in zip(("", *place), place):
        kind = "review" if str(before).endswith("_reviews") else "number"
        yield f"{kind} {one + 1}" if isinstance(one, int) else one
