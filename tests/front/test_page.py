"""The page in a real browser: by keys alone from a search to an answer, whatever the texts say."""

from dataclasses import replace

import pytest

pytest.importorskip("fastapi", reason="needs fastapi (requirements-serve.txt)")
pytest.importorskip("uvicorn", reason="needs uvicorn (requirements-serve.txt)")

import asked
from browser import CONTRASTS, IN_A_BROWSER, Page, chromium

from reason4rec.data.history import Entry

pytestmark = [IN_A_BROWSER, pytest.mark.slow]

ATTACK = '</script><script>window.hacked = 1</script><img src="http://127.0.0.1:9/x.png" onerror="window.hacked = 1">'
HEBREW, FANCY, WIDE = "אלבום נהדר", "𝓯𝓪𝓷𝓬𝔂 🎶", "w" * 400
USERS = ("ada", "ben", "cold", f"{ATTACK[:60]}<b>", "u" * 120)
TITLES = {
    "i1": "Midnight Blue",
    "i2": "Blue Train",
    "i3": f"Hostile {ATTACK}",
    "i4": HEBREW,
    "i5": WIDE,
    "i6": f"A {FANCY} title",
}
SUMMARY = f"Positive Aspects: {FANCY}, warm sound\nNegative Aspects: {WIDE}\nUser Preference Elements: {ATTACK}"


class Foreign(asked.Quick):
    """Experts whose histories and reasons hold foreign texts; of the user `cold` nothing is known."""

    def __init__(self):
        super().__init__(USERS, TITLES)

    def answer(self, question):
        answer = super().answer(question)
        if question.user_id == "cold":
            nothing = {"user_history": (), "user_count": 0, "user_average": None, "item_history": (), "item_count": 0}
            return replace(answer, item_average=None, notes=("no earlier review by this user is known",), **nothing)
        entries = tuple(Entry(title, 3.5, SUMMARY) for title in TITLES.values())
        reason = f"{ATTACK} {HEBREW} {WIDE} They like a warm sound."
        return replace(answer, reason=reason, user_history=entries, user_count=99, item_history=entries, item_count=6)


@pytest.fixture(scope="module")
def experts():
    return Foreign()


@pytest.fixture(scope="module")
def address(experts):
    with asked.running(asked.app_with(experts)) as address:
        yield address


class Asking(Page):
    """The page that asks the experts."""

    def wait(self, expression: str) -> object:
        """The value of an expression once it is true."""
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, 30).until(lambda _: self.js(expression))

    def search(self, name: str, words: str, found: str) -> None:
        """Types into a field until what a search finds is there."""
        self.js("document.getElementById(arguments[0]).focus()", name)
        self.press(words)
        self.wait(f"document.querySelector('#{name}-list li')?.textContent.includes({found!r})")

    def heading(self) -> str:
        return self.wait("document.activeElement.id === 'result-title' && document.activeElement.textContent")

    def explain(self, user: str = "ada", item: str = "i1", **more: object) -> None:
        """Opens the link to an answer and waits for it."""
        self.driver.get("about:blank")
        self.open(address=f"{self.address}#user={user}&item={item}", **more)
        self.heading()


@pytest.fixture(scope="module")
def browser(tmp_path_factory, address):
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield Asking(driver, f"{address}/")


def test_keys_alone_lead_from_a_search_to_an_answer(browser, experts):
    browser.open()
    browser.press("TAB", "TAB")
    assert browser.js("document.activeElement.id") == "user"
    browser.press("ad")
    browser.wait("document.querySelector('#user-list [aria-selected=true]')")
    assert browser.js("document.activeElement.getAttribute('aria-expanded')") == "true"
    browser.press("ENTER")
    assert browser.js("[document.activeElement.value, document.querySelector('#user-list').hidden]") == ["ada", True]
    browser.press("TAB", "TAB", "blue")
    browser.wait("document.querySelectorAll('#item-list [role=option]').length === 2")
    browser.press("ARROW_DOWN")
    active = browser.js("document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))")
    assert "Midnight Blue" in active.text
    browser.press("ARROW_DOWN", "ARROW_UP", "ENTER")
    assert browser.js("document.activeElement.value") == "Midnight Blue"
    browser.press("ENTER")
    assert browser.heading() == "Midnight Blue"
    assert (experts.calls[-1][0].user_id, experts.calls[-1][0].item_id) == ("ada", "i1")
    assert browser.js("location.hash") == "#user=ada&item=i1"
    assert browser.text(".rating b") == "4.19"
    assert browser.text(".rating .median") == "median 4"
    assert browser.text(".bars").startswith("5 ★45.0%4 ★35.0%")
    assert browser.text(".notes") == "A note"
    assert "Reason4Rec (quick)" in browser.text(".foot")


def test_escape_closes_the_list_and_then_clears_the_field(browser):
    browser.open()
    browser.search("item", "blue", "Blue Train")
    browser.press("ESCAPE")
    assert browser.js("[document.querySelector('#item-list').hidden, document.activeElement.value]") == [True, "blue"]
    browser.press("ESCAPE")
    assert browser.js("document.activeElement.value") == ""
    browser.press("ARROW_DOWN")
    browser.wait(f"document.querySelectorAll('#item-list [role=option]').length === {len(TITLES)}")
    browser.press("ESCAPE", "no such words")
    browser.wait("document.querySelector('#item-list').textContent === 'nothing found'")


def test_a_click_chooses_too(browser):
    browser.open()
    browser.search("item", "blue", "Blue Train")
    browser.click("#item-list li:nth-child(2)")
    assert browser.js("document.querySelector('#item').value") == "Midnight Blue"
    assert browser.text("#item-choice") == "item i1, 4 reviews"


def test_foreign_text_is_shown_as_it_is_and_does_nothing(browser, address):
    browser.open()
    browser.driver.get_log("browser"), browser.requested()
    browser.search("item", "hostile", "Hostile")
    assert browser.js("document.querySelector('#item-list span').textContent") == TITLES["i3"]
    browser.press("ENTER")
    browser.search("user", "</script", "<b>")
    browser.press("ENTER", "ENTER")
    assert browser.heading() == TITLES["i3"]
    assert browser.js("window.hacked") is None
    assert browser.js("document.querySelectorAll('img, iframe, object, link, [onerror]').length") == 0
    assert browser.js("document.scripts.length") == 2
    assert browser.text(".reason p").startswith(ATTACK)
    assert [browser.text(".histories li p")] == [SUMMARY]
    marks = browser.js("[...document.querySelectorAll('.histories mark')].map(e => e.textContent)")
    assert set(marks) == {"warm sound", WIDE}  # after letters of two halves
    assert browser.driver.get_log("browser") == []
    assert {one.startswith(f"{address}/") for one in browser.requested()} == {True}
    with pytest.raises(Exception, match="TrustedHTML"):
        browser.js("document.body.innerHTML = '<b>markup</b>'")


def test_a_link_leads_to_its_answer_and_going_back_to_the_one_before(browser):
    browser.explain("ben", "i2")
    assert browser.js("[document.querySelector('#user').value, document.querySelector('#item').value]") == [
        "ben",
        "Blue Train",
    ]
    browser.js("(location.hash = '#user=ada&item=i1')")
    browser.wait("document.querySelector('#result-title')?.textContent === 'Midnight Blue'")
    browser.driver.back()
    browser.wait("document.querySelector('#result-title')?.textContent === 'Blue Train'")


def test_going_back_to_an_address_without_an_answer_left_the_answer_there(browser):
    browser.driver.get("about:blank")
    browser.open()
    browser.js("(location.hash = '#user=ada&item=i1')")
    browser.wait("document.querySelector('#result-title')?.textContent === 'Midnight Blue'")
    browser.driver.back()
    browser.wait("document.querySelector('#result').hidden")
    browser.driver.forward()
    browser.wait("!document.querySelector('#result').hidden")


def test_a_list_had_the_address_of_an_earlier_answer(browser):
    browser.explain()
    browser.click("#recommend")
    browser.wait("document.querySelector('#result-title').textContent === 'Recommended'")
    assert browser.js("location.hash") == ""
    browser.press("TAB", "TAB", "ENTER")
    browser.wait("document.querySelector('#result-title').textContent === 'Blue Train'")
    browser.driver.back()
    browser.wait("document.querySelector('#result-title').textContent === 'Recommended'")
    assert browser.text(":focus .title") == "Blue Train"
    browser.driver.back()
    browser.wait("document.querySelector('#result-title').textContent === 'Midnight Blue'")


def test_a_new_user_and_a_new_item_are_asked_about_and_stand_in_no_address(browser, experts):
    browser.explain()
    browser.click("label:has([name=user-kind][value=new])")
    browser.click("label:has([name=item-kind][value=new])")
    browser.click("#explain")
    assert browser.js("document.activeElement.closest('.review') !== null")
    assert browser.text("#error") == "Fill in this field first, or remove the review."
    browser.press("A first song", "TAB", "2", "TAB", "Too <b>long</b>.")
    browser.click("#add-user-review")
    browser.press("A second song", "TAB", "TAB", "Warm.")
    browser.click("#title")
    browser.press("The third")
    browser.click("#add-item-review")
    browser.press("TAB", "Loud.")
    browser.click("#explain")
    browser.wait("document.querySelector('#result-title').textContent === 'The third'")
    question = experts.calls[-1][0]
    assert [(one.title, one.rating, one.text) for one in question.user_reviews] == [
        ("A first song", 2, "Too <b>long</b>."),
        ("A second song", 5, "Warm."),
    ]
    assert (question.title, [one.text for one in question.item_reviews]) == ("The third", ["Loud."])
    assert browser.js("location.hash") == ""
    assert "a new user" in browser.text(".meta")
    browser.click("#user-reviews .remove")
    assert browser.js("document.querySelectorAll('#user-reviews .review').length") == 1
    assert browser.js("document.activeElement.value") == "A second song"


def test_recommended_items_can_be_opened_one_by_one(browser):
    browser.open()
    browser.search("user", "ad", "ada")
    browser.press("ENTER")
    browser.click("#recommend")
    assert browser.heading() == "Recommended"
    titles = browser.js("[...document.querySelectorAll('.ranked .title')].map(e => e.textContent)")
    assert titles == list(TITLES.values())
    browser.press("TAB", "TAB", "ENTER")
    assert browser.heading() == "Blue Train"
    assert browser.js("location.hash") == "#user=ada&item=i2"
    assert browser.js("document.querySelector('#item').value") == "Blue Train"
    browser.click(".back")
    assert browser.text(":focus .title") == "Blue Train"


def test_an_error_is_told_and_the_answer_before_it_stays(browser):
    browser.explain()
    browser.search("user", "nobody", "nothing found")
    browser.press("ENTER")
    browser.wait("document.querySelector('#error').textContent")
    assert browser.text("#error").startswith("No user 'adanobody' in the data")
    assert browser.js("document.querySelector('#error').role") == "alert"
    assert browser.text("#result-title") == "Midnight Blue"
    browser.press("ESCAPE", "ESCAPE")
    browser.click("#recommend")
    assert browser.text("#error") == "Choose a user first."
    assert browser.js("document.activeElement.id") == "user"


def test_a_question_can_be_given_up(browser, experts):
    browser.explain()
    experts.open.clear()
    try:
        browser.click("#explain")
        assert browser.wait("!document.querySelector('#busy').hidden && document.querySelector('#status').textContent")
        assert browser.js("document.querySelector('#explain').ariaDisabled") == "true"
        browser.click("#cancel")
        assert browser.js("[document.querySelector('#busy').hidden, document.activeElement.id]") == [True, "explain"]
        assert browser.text("#error") == ""
    finally:
        experts.open.set()


def test_histories_that_are_empty_are_said_to_be(browser):
    browser.explain("cold", "i1")
    assert browser.js("[...document.querySelectorAll('.histories p')].map(e => e.textContent)") == [
        "No earlier review.",
        "No earlier review.",
    ]
    assert browser.text(".notes") == "No earlier review by this user is known"


def test_made_up_data_are_said_to_be(browser, experts):
    browser.open()
    assert browser.js("document.querySelector('#made-up').hidden")
    with asked.running(asked.app_with(experts, dataset="Demo_data")) as address:
        browser.open(address=address)
        assert "made up" in browser.text("#made-up")
        assert browser.js("document.querySelector('#made-up').checkVisibility()")


def everything_open(browser, **more):
    """An answer with long foreign texts, below a form with new reviews and an open list."""
    browser.explain("u" * 120, "i5", **more)
    for side in ("user", "item"):
        browser.click(f"label:has([name={side}-kind][value=new])")
        browser.click(f"#add-{side}-review")
    browser.click("label:has([name=item-kind][value=known])")
    browser.js("document.querySelector('#item').select()")
    browser.search("item", WIDE[:100], WIDE[:100])


@pytest.mark.parametrize("width", [320, 360, 768, 1400])
def test_no_text_is_wider_than_the_window(browser, width):
    everything_open(browser, width=width)
    assert browser.js("document.documentElement.scrollWidth") <= width
    beyond = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth)"
    assert browser.js(f"{beyond}.map(e => e.outerHTML)") == []
    browser.press("ESCAPE")
    browser.open(width=width)
    browser.search("user", "ad", "ada")
    browser.press("ENTER")
    browser.click("#recommend")
    browser.heading()
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.js(f"{beyond}.map(e => e.outerHTML)") == []


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_stands_out_in_both_themes(browser, dark):
    everything_open(browser, dark=dark)
    browser.js("document.querySelector('#error').textContent = 'An error.'")
    assert browser.js(CONTRASTS) == []
    light = browser.js("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] > 128")
    assert light != dark


def test_every_control_has_a_name_and_the_answer_is_heard(browser):
    everything_open(browser)
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = set(
        "button radio textbox combobox listbox option image group radiogroup alert status heading region".split()
    )
    nodes = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
    assert {node["role"]["value"] for node in nodes} >= roles - {"alert", "status"}
    nameless = [node for node in nodes if not node.get("name", {}).get("value")]
    assert {node["role"]["value"] for node in nameless} <= {"alert", "status"}


def test_nothing_moves_where_the_reader_wants_no_motion(browser):
    browser.open()
    browser.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    )
    browser.js("document.querySelector('#busy').hidden = false")
    assert browser.js("getComputedStyle(document.querySelector('.wheel')).animationName") == "none"
