//! The dashboard in a real browser (Debian's Chromium): a real Strata's, under load, and a played one's for what no small test
//! could bring about.
//!
//! `STRATA_SHOTS=FOLDER cargo test --test dashboard` leaves pictures of it there, to be looked at.

#[path = "dashboard/browser.rs"]
mod browser;
mod common;
#[path = "dashboard/played.rs"]
mod played;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use browser::{Browser, DOWN, ENTER, ESCAPE, TAB};
use common::metrics::get;
use common::{Asker, Origin, Strata, Wire, free_address};
use played::{HOSTILE, Played, diagnosed, event};
use serde_json::{Value, json};
use strata::admin::document::Drop;

/// An l7 service over two endpoints that serve and one that is down, and an l4 service with one endpoint.
fn site(endpoints: &[&Origin], database: &Origin) -> String {
    let mut names: Vec<String> = endpoints.iter().map(|each| format!("\"{}\"", each.address)).collect();
    names.push(format!("\"{}\"", free_address()));
    format!(
        "[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\n[[service.edge.route]]\nurl = \"/api/*\"\npool = \"web\"\n\
         [[service.edge.route]]\npool = \"web\"\n\
         [service.database]\nmode = \"l4\"\nlisten = \"{}\"\npool = \"database\"\n\
         [pool.web]\nbalance = \"round-robin\"\nprobe = {{ type = \"tcp\", interval = \"200ms\", timeout = \"100ms\" }}\n\
         endpoints = [{}]\n[pool.database]\nendpoints = [\"{}\"]\n",
        free_address(),
        names.join(", "),
        database.address
    )
}

fn url(strata: &Strata) -> String {
    format!("http://{}/", strata.admin)
}

/// Everything that was asked for came from the page's own listener, and nothing was complained about.
#[track_caller]
fn assert_clean(browser: &Browser, own: &str) {
    let elsewhere: Vec<String> = browser.requested().into_iter().filter(|url| !url.starts_with(own)).collect();
    assert!(elsewhere.is_empty(), "asked for elsewhere: {elsewhere:?}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// The row of an endpoint, as an expression of the page.
fn row(endpoint: &Origin) -> String {
    format!("[...document.querySelectorAll('.row')].find((row) => row.innerText.includes('{}'))", endpoint.address)
}

const RATE: &str = "document.querySelector('.card.service .numbers dd').innerText";

#[test]
fn what_is_served_is_shown_and_moves() {
    let [first, second, database] = [(); 3].map(|()| Origin::echo());
    let strata = Strata::start(&site(&[&first, &second], &database));
    let Some(browser) = Browser::start("live") else { return };
    let _load = Asker::start(&strata, "/api/x");
    browser.open(&url(&strata));
    browser.await_that("document.querySelectorAll('.lane').length === 2");
    browser.await_that(&format!("Number.parseFloat({RATE}) > 0"));
    let before = browser.run(&format!("return {RATE};"));
    browser.await_that(&format!("{RATE} !== {before}"));
    browser.await_that(
        "[...document.querySelectorAll('.row .state')].some((state) => state.innerText.startsWith('down'))",
    );
    let flow = browser.text("#flow");
    for word in [
        "edge",
        "l7",
        "/api/*",
        "web",
        "round-robin",
        "2/3 usable",
        "database",
        "l4",
        "every connection",
        "connect refused",
    ] {
        assert!(flow.contains(word), "{word} is not in {flow}");
    }
    assert!(flow.contains(&strata.edge.to_string()) && flow.contains(&first.address.to_string()), "{flow}");
    // Curves lead from the listener to the endpoints, and the one to the endpoint that is down says so.
    browser.await_that("document.querySelectorAll('.curve').length === 2 + 2 + 4");
    browser.await_that("document.querySelectorAll('.curve.bad').length === 1");
    browser.await_that("document.querySelector('#overview').innerText.match(/latency p99\\s+[0-9]/)");
    assert_eq!(browser.text("#state"), "ready");
    // A machine that is busy may keep an answer back for a while.
    browser.await_that("document.querySelector('#age').innerText === 'live'");
    // What happened, newest first, and that there is nothing to say of the file.
    browser.await_that("document.querySelector('#changes-list').innerText.includes('down')");
    assert!(browser.text("#diagnostics").contains("No warnings"), "{}", browser.text("#diagnostics"));

    // What becomes of a request, and of one that is refused.
    browser.press("e");
    browser.press(&format!("GET http://{}/api/users{ENTER}", strata.edge));
    browser.await_that("document.querySelector('.steps')");
    let steps = browser.text(".steps");
    for word in ["/api/* to pool web", "wins:", "2 of 3 usable", "forward", "round-robin", "not usable"] {
        assert!(steps.contains(word), "{word} is not in {steps}");
    }
    browser.run("document.activeElement.select();");
    browser.press(&format!("tcp 10.1.0.9{ENTER}"));
    browser.await_that("document.querySelector('#explained .notice[data-tone=bad]')");
    // A refusal of the API is in the console too; nothing else is.
    assert!(browser.complaints().iter().all(|line| line.contains("400")));
    assert_clean(&browser, &url(&strata));
    browser.shoot("live");
}

#[test]
fn an_endpoint_is_drained_by_keys_alone() {
    let [first, second, database] = [(); 3].map(|()| Origin::echo());
    let strata = Strata::start(&site(&[&first, &second], &database));
    let Some(browser) = Browser::start("keys") else { return };
    let draining = |pool: &str| strata.scrape().sum("strata_endpoint_state", &[("pool", pool), ("intent", "draining")]);
    browser.open(&url(&strata));
    browser.await_that(&row(&first));

    // Every stop of the tabulator is somewhere else, is on the page, and is seen to be.
    browser.press(TAB);
    browser.await_that("document.activeElement.className === 'skip'");
    let mut stops = Vec::new();
    for _ in 0..14 {
        browser.press(TAB);
        let stop = browser.run(
            "const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect(); \
             const seen = (window.stops ??= new Map()); if (!seen.has(at)) seen.set(at, seen.size); \
             return [`${seen.get(at)} ${at.outerHTML.slice(0, 60)}`, style.outlineStyle !== 'none' && box.width > 0];",
        );
        assert_eq!(stop[1], true, "the focus cannot be seen at {stop}");
        stops.push(stop[0].to_string());
    }
    let mut different = stops.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), stops.len(), "{stops:#?}");

    // The keys are told.
    browser.press("?");
    browser.await_that("document.querySelector('#help').open");
    browser.press(ESCAPE);
    browser.await_that("!document.querySelector('#help').open");

    // An endpoint is found, and drained after a question.
    browser.press("/");
    browser.press(&first.address.to_string());
    browser.await_that("document.querySelectorAll('.row').length === 1");
    browser.press(ESCAPE);
    browser.await_that("document.querySelectorAll('.row').length === 4");
    browser.press("j");
    browser.await_that("document.activeElement.matches('button.endpoint')");
    browser.press(DOWN);
    browser.press("k");
    browser.await_that(&format!("{}.contains(document.activeElement)", row(&first)));
    // Enter that is held down opens it, and does nothing more.
    browser.press(&format!("{ENTER}{ENTER}{ENTER}"));
    browser
        .await_that("document.querySelector('#endpoint').open && document.querySelector('.outcome').innerText === ''");
    browser.press(ESCAPE);
    assert_eq!(draining("web"), 0.0);
    browser.press("d");
    browser.await_that("document.querySelector('#question').innerText.startsWith('Drain 127.')");
    assert_eq!(draining("web"), 0.0, "a key asks first");
    browser.press(ENTER);
    browser.await_that("document.querySelector('.outcome[data-tone=good]')");
    assert_eq!(draining("web"), 1.0, "the endpoint is drained in Strata, not only on the page");
    browser.press(ESCAPE);
    browser.await_that(&format!("{}.contains(document.activeElement)", row(&first)));
    browser.await_that(&format!("{}.innerText.includes('draining (up)')", row(&first)));
    browser.await_that("document.querySelector('#changes-list').innerText.includes('done through the admin API')");

    // The last one of a pool: whoever only presses Enter has not agreed.
    let last = row(&database);
    browser.run(&format!("{last}.querySelector('button').focus();"));
    browser.press(&format!("m{ENTER}"));
    browser
        .await_that("document.querySelector('#endpoint').open && !document.querySelector('.asking').checkVisibility()");
    browser.press(ESCAPE);
    browser.press("m");
    browser.await_that("document.querySelector('#question').innerText.includes('last usable endpoint of database')");
    browser.shoot("last");
    browser.press(&format!("{TAB}{ENTER}"));
    browser.await_that("document.querySelector('.outcome[data-tone=good]')");
    let taken = [("pool", "database"), ("intent", "maintenance")];
    assert_eq!(strata.scrape().sum("strata_endpoint_state", &taken), 1.0);

    // By its button it is given back at once; and a weight that nothing looks at is refused in the words of the API.
    browser.click("[data-operation=restore]");
    browser.await_that("document.querySelector('.outcome').innerText.includes('restored')");
    assert_eq!(strata.scrape().sum("strata_endpoint_state", &taken), 0.0);
    browser.press(ESCAPE);
    browser.run(&format!("{}.querySelector('button').focus();", row(&second)));
    browser.press("w");
    browser.await_that("document.activeElement.id === 'weight'");
    browser.await_that(&format!("document.activeElement.max === '{}'", strata::base::limits::WEIGHT));
    browser.press(&format!("5{ENTER}"));
    browser.await_that("document.querySelector('.outcome').innerText.includes('does not look at weights')");
    assert!(browser.text(".outcome[data-tone=bad]").contains("weighted-round-robin"));
    browser.press(ESCAPE);

    // What the page shows may be old: somebody else drains the other one meanwhile.
    let post = |endpoint: &Origin, operation: &str| {
        let mut wire = Wire::connect(strata.admin);
        let path = format!("/api/pools/web/endpoints/{}/{operation}", endpoint.address);
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", strata.admin));
        assert_eq!(wire.response().expect("an answer").status(), 200, "{path}");
    };
    post(&first, "restore");
    browser.await_that(&format!("{}.innerText.includes('up ')", row(&first)));
    browser.press("p");
    browser.await_that("document.querySelector('#age').innerText.startsWith('paused')");
    post(&first, "drain");
    browser.run(&format!("{}.querySelector('button').click();", row(&second)));
    browser.click("[data-operation=drain]");
    browser.await_that("document.querySelector('#question').innerText.includes('last usable endpoint of web')");
    assert_eq!(draining("web"), 1.0, "only what somebody else has drained");
}

#[test]
fn a_strata_that_is_gone_is_said_and_one_that_comes_back_is_shown() {
    let [first, second, database] = [(); 3].map(|()| Origin::echo());
    let mut strata = Strata::start(&site(&[&first, &second], &database));
    let Some(browser) = Browser::start("gone") else { return };
    browser.open(&url(&strata));
    browser.await_that("document.querySelector('#age').innerText === 'live'");
    browser.run("window.loaded = true;");
    strata.stop();
    browser
        .await_that("document.querySelector('#notices').innerText.includes('Strata does not answer: no connection')");
    browser.await_that(
        "document.querySelector('#age').innerText.includes('stale') && document.body.hasAttribute('data-stale')",
    );
    assert!(browser.text("#flow").contains("edge"), "what was last known is still there");
    strata.start_again();
    browser
        .await_that("document.querySelector('#age').innerText === 'live' && !document.body.hasAttribute('data-stale')");
    browser.await_that("!document.querySelector('#notices').innerText.includes('does not answer')");
    assert_eq!(browser.run("return window.loaded;"), true, "the page was not loaded again");
    browser.await_that("document.querySelector('#spoken').innerText.includes('answers now')");
    browser.await_that("document.querySelector('#changes-list').innerText.includes('process')");

    // A reload that is refused: the page says it, and why, with whatever the file has.
    strata.rewrite(&format!("[service.edge]\nmod{HOSTILE} = \"l7\"\n"));
    strata.signal("HUP");
    browser.await_that("document.querySelector('#notices').innerText.includes('The last reload was rejected')");
    browser.await_that("document.querySelector('#diagnostics').innerText.includes('was refused')");
    browser.await_that("document.querySelector('#diagnostics').innerText.includes('<img src=x')");
    assert_eq!(browser.run("return window.owned ?? null;"), Value::Null);
}

#[test]
fn the_token_is_asked_for_once_and_stands_in_no_address() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let [first, second, database] = [(); 3].map(|()| Origin::echo());
    let strata = Strata::start(&site(&[&first, &second], &database));
    let text = strata.text_of(&site(&[&first, &second], &database));
    let _ = std::fs::write(
        strata.folder().join("strata.toml"),
        text.replace("[admin]\n", &format!("[admin]\ntoken = \"{TOKEN}\"\nread_only = true\n")),
    );
    strata.signal("HUP");
    common::await_that("the token is asked for", || get(strata.admin, "/api/status").status() == 401);
    let Some(browser) = Browser::start("token") else { return };
    browser.open(&url(&strata));
    browser.await_that("document.querySelector('#token').open && document.activeElement.id === 'token-input'");
    assert!(!browser.text("#lanes").contains("edge"));
    browser.shoot("token");
    browser.press(&format!("wrong-wrong-wrong-wrong{ENTER}"));
    browser.await_that("document.querySelector('#token-wrong').checkVisibility()");
    browser.press(&format!("{TOKEN}{ENTER}"));
    browser.await_that("document.querySelector('#lanes').innerText.includes('edge')");
    browser.reload();
    browser.await_that("document.querySelector('#lanes').innerText.includes('edge')");
    assert_eq!(browser.run("return document.querySelector('#token').open;"), false, "asked for once");
    let asked = browser.requested();
    assert!(asked.iter().all(|url| !url.contains(TOKEN)) && asked.len() > 5, "{asked:?}");
    assert_eq!(browser.run(&format!("return JSON.stringify(localStorage).includes('{TOKEN}');")), false);

    // Read-only: nothing is offered, and nothing done.
    browser.press("jd");
    browser.await_that("document.querySelector('#endpoint').open");
    assert!(browser.text("#endpoint").contains("read-only") && !browser.text("#endpoint").contains("Drain"));
    let refused = browser.run_promise(&format!(
        "fetch('api/pools/web/endpoints/{}/drain', {{ method: 'POST', headers: {{ Authorization: 'Bearer {TOKEN}' }} }}).then((answer) => answer.status)",
        first.address
    ));
    assert_eq!(refused, 403);
}

#[test]
fn hostile_texts_stay_texts() {
    let Some(browser) = Browser::start("hostile") else { return };
    let events = vec![event(1, "error", HOSTILE, HOSTILE, HOSTILE)];
    let played = Played::start(played::hostile, events, diagnosed(HOSTILE));
    browser.open(&played.url());
    browser.await_that("document.querySelectorAll('.row').length === 2");
    browser.await_that("document.querySelector('#diagnostics').innerText.includes('<img')");
    browser.run(
        "document.querySelector('#what').value = 'GET /'; document.querySelector('#explain-form').requestSubmit();",
    );
    browser.await_that("document.querySelector('.steps')");
    for place in [
        "#lanes .entry",
        "#lanes .service",
        "#lanes .pool",
        ".row",
        "#packets",
        "#drops",
        "#changes-list",
        ".steps",
        ".facts",
        "#notices",
    ] {
        assert!(browser.text(place).contains("<img src=x"), "{place}: {}", browser.text(place));
    }
    // The endpoint's name goes into a path, and comes out of it whole.
    browser.run("document.querySelector('.row button').click();");
    browser.click("[data-operation=restore]");
    browser.await_that("document.querySelector('.outcome[data-tone=good]')");
    let asked = played.asked.lock().first().cloned().unwrap_or_default();
    assert!(asked.starts_with("/api/pools/%3Cimg") && asked.split('/').count() < 9, "{asked}");
    let made = browser.run("return [window.owned ?? null, document.querySelectorAll('img:not([src$=\"icon.svg\"]), script:not([src])').length];");
    assert_eq!(made, json!([null, 0]), "something became markup");
    assert_clean(&browser, &played.url());
}

/// Every text that can be seen has a contrast of 4.5, or 3 where it is large, on what is behind it (WCAG 2.2, 1.4.3).
const TOO_FAINT: &str = "
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255); };
    const over = (top, below) => top.slice(0, 3).map((v, n) => v * top[3] + below[n] * (1 - top[3]));
    const behind = (node) => { const layers = []; for (let at = node; at; at = at.parentElement) { const colour = rgba(getComputedStyle(at).backgroundColor); layers.push(colour); if (colour[3] === 1) break; } return layers.reverse().reduce((below, top) => over(top, below), [1, 1, 1]); };
    const light = (colour) => { const [r, g, b] = colour.map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const faint = [];
    for (const node of document.querySelectorAll('body *')) {
        const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        const box = node.getBoundingClientRect();
        if (!own || !node.checkVisibility() || box.width <= 1 || node.closest('noscript')) continue;
        const style = getComputedStyle(node), below = behind(node), text = over(rgba(style.color), below);
        const [a, b] = [light(text), light(below)].sort((x, y) => y - x), contrast = (a + 0.05) / (b + 0.05);
        const size = Number.parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
        if (contrast < (large ? 3 : 4.5)) faint.push(`${contrast.toFixed(2)} ${node.tagName}.${node.className} ${node.innerText.slice(0, 40)}`);
    }
    return faint;";

#[test]
fn it_is_legible_by_day_by_night_and_on_a_phone() {
    let Some(browser) = Browser::start("legible") else { return };
    let events = vec![
        event(1, "info", "process", "", "started, version 0.1.0"),
        event(2, "info", "reload", "", "generation 7 is in force, by signal"),
        event(3, "warn", "endpoint", "web/10.0.0.15:8080", "down: connect refused"),
        event(
            4,
            "info",
            "admin",
            "",
            "done through the admin API peer=127.0.0.1:40112 request=drain web 10.0.0.14:8080 status=200",
        ),
        event(5, "error", "reload", "", "the configuration is refused; generation 7 serves on"),
    ];
    let played = Played::start(played::every_layer, events, diagnosed("`pol` is no key of a service"));
    browser.resize(1440, 1000);
    browser.prefer("light");
    browser.open(&played.url());
    browser
        .await_that("document.querySelectorAll('.row').length > 12 && document.querySelectorAll('.curve').length > 20");
    browser.await_that("document.querySelectorAll('#overview .tile').length === 8");
    assert!(browser.text("#flow").contains("from dns api.internal fails: no answer within 2s"));
    assert!(browser.text("#notices").contains("pool.api (no answer within 2s)"), "{}", browser.text("#notices"));
    browser.await_that(&format!("Number.parseFloat({RATE}) > 0"));
    browser.run(
        "document.querySelector('#what').value = 'GET /'; document.querySelector('.explain-form details').open = true;",
    );
    if std::env::var_os("STRATA_SHOTS").is_some() {
        browser.await_that("document.querySelector('.spark polyline').getAttribute('points').split(' ').length >= 20");
    }
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        backgrounds.push(browser.run("return getComputedStyle(document.body).backgroundColor;"));
        assert_eq!(browser.run(TOO_FAINT), json!([]), "{scheme}");
        browser.shoot(scheme);
    }
    assert_ne!(backgrounds[0], backgrounds[1], "the page follows the system");
    // The switch goes before the system, and is remembered.
    browser.press("tt");
    browser.await_that("document.querySelector('#theme').innerText === 'Theme: light'");
    assert_eq!(browser.run("return getComputedStyle(document.body).backgroundColor;"), backgrounds[0]);
    browser.reload();
    browser.await_that("document.querySelectorAll('.row').length > 12");
    assert_eq!(browser.text("#theme"), "Theme: light");

    for (width, height) in [(320, 720), (390, 844), (768, 1024), (1024, 768), (1280, 800), (1920, 1080)] {
        browser.resize(width, height);
        let sizes = browser
            .run("const page = document.documentElement; return [page.scrollWidth, page.clientWidth, innerWidth];");
        assert!(sizes[0] == sizes[1] && sizes[2] == width, "at {width} the page scrolls sideways: {sizes}");
        let cut = browser.run("return [...document.querySelectorAll('.row button, .card .name')].filter((node) => node.checkVisibility() && node.getBoundingClientRect().right > innerWidth).length;");
        assert_eq!(cut, 0, "names are cut at {width}");
        browser.shoot(&format!("width-{width}"));
    }
    browser.resize(320, 720);
    browser.run("document.querySelector('.row button').click();");
    browser.await_that("document.querySelector('#endpoint').open");
    assert_eq!(browser.run("const box = document.querySelector('#endpoint').getBoundingClientRect(); return box.left >= 0 && box.right <= 320;"), true);
    assert_eq!(browser.run(TOO_FAINT), json!([]), "the dialog on a phone");
    browser.shoot("phone-dialog");
    assert_clean(&browser, &played.url());
}

#[test]
fn diagnostics_say_what_the_notice_counts_without_an_event_too() {
    let Some(browser) = Browser::start("diagnostics") else { return };
    let stage = Arc::new(AtomicUsize::new(1));
    let reached = stage.clone();
    let status = move |look| {
        let mut status = played::every_layer(look);
        let stage = reached.load(Relaxed);
        (status.warnings, status.last_reload_successful) = (stage.min(2), true);
        // One is found by a source only later, and then one more behind those that a status brings.
        if stage > 1 {
            status.sources[0].mistakes = diagnosed("from the source").found;
            status.sources[0].refused = vec![Drop { reason: "bad-address".into(), count: stage as u64 - 1 }];
        }
        status.services[2].engine = "none".to_owned();
        status
    };
    let mut first = diagnosed("as the file says");
    (first.refused, first.found) = (None, Vec::new());
    let played = Played::start(status, Vec::new(), first.clone());
    browser.open(&played.url());
    browser.await_that("document.querySelector('#diagnostics').innerText.includes('1 warning of generation 7')");
    // And of a Strata that serves all but one.
    assert_eq!(browser.text("#state[data-tone=warn]"), "ready, 1 not served");

    let mut next = first;
    next.warnings.push(next.warnings[0].clone());
    next.found = diagnosed("from the source").found;
    *played.diagnostics.lock() = next.clone();
    stage.store(2, Relaxed);
    browser.await_that("document.querySelector('#notices').innerText.includes('2 warnings')");
    browser.await_that("document.querySelector('#diagnostics').innerText.includes('2 warnings of generation 7')");
    browser.await_that("document.querySelector('#diagnostics pre').ariaLabel.startsWith('2 warnings')");
    assert!(browser.text("#diagnostics").contains("from the source"), "{}", browser.text("#diagnostics"));

    next.found.extend(diagnosed("behind the tenth").found);
    *played.diagnostics.lock() = next;
    stage.store(3, Relaxed);
    browser.await_that("document.querySelector('#diagnostics').innerText.includes('behind the tenth')");
}

#[test]
fn whether_it_is_the_last_one_is_asked_where_it_is_not_known() {
    let Some(browser) = Browser::start("unknown") else { return };
    let played = Played::start(played::every_layer, Vec::new(), Default::default());
    browser.open(&played.url());
    browser.await_that("document.querySelectorAll('.row').length > 12");
    *played.failing.lock() = Some("/api/pools");
    browser.run("document.querySelector('.row button').click();");
    browser.click("[data-operation=drain]");
    browser.await_that("document.querySelector('#question').innerText.includes('is not known: status 500.')");
    assert_eq!(*played.asked.lock(), Vec::<String>::new(), "nothing is done before the answer");
    browser.click(".asking .danger");
    browser.await_that("document.querySelector('.outcome[data-tone=good]')");
    assert_eq!(played.asked.lock().len(), 1);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the slowness is what is played")]
fn a_strata_that_answers_slowly_is_live() {
    let Some(browser) = Browser::start("slow") else { return };
    let status = |look| {
        // Looks are then more than 3.5 s apart.
        std::thread::sleep(Duration::from_millis(1300));
        let mut status = played::every_layer(look);
        status.generation = look + 1;
        status
    };
    let played = Played::start(status, Vec::new(), Default::default());
    browser.open(&played.url());
    browser.await_that("document.querySelector('#facts').innerText.includes('generation 1,')");
    browser.run(
        "window.said = []; new MutationObserver(() => said.push(document.querySelector('#age').innerText)) \
         .observe(document.querySelector('#age'), { childList: true, characterData: true, subtree: true });",
    );
    browser.await_that("document.querySelector('#facts').innerText.includes('generation 2,')");
    assert_eq!(browser.run("return said.filter((said) => said !== 'live');"), json!([]));
    assert_eq!(browser.text("#age"), "live");
}

#[test]
fn a_hundred_services_of_fifty_endpoints_can_be_used() {
    let Some(browser) = Browser::start("many") else { return };
    let played = Played::start(played::many, Vec::new(), Default::default());
    browser.open(&played.url());
    browser.await_that("document.querySelectorAll('.lane').length === 100");
    // What is well is dots; what is not is listed.
    let rows = browser.run("return document.querySelectorAll('.row').length;");
    assert_eq!(rows, 18, "6 pools with 3 endpoints down each");
    browser.press("x");
    browser.await_that(&format!("document.querySelectorAll('.lane').length === 6 && Number.parseFloat({RATE}) > 0"));
    browser.shoot("many-trouble");
    browser.press("x");
    browser.press("/");
    browser.press("shop-42");
    browser.await_that("document.querySelectorAll('.lane').length === 1");
    browser.click(".toggle");
    browser.await_that("document.querySelectorAll('.row').length === 50");
    browser.press(ESCAPE);
    browser.press("/");
    browser.press("10.7.0.33:");
    browser.await_that("document.querySelectorAll('.row').length === 1 && document.querySelector('#shown').innerText === '1 of 100 shown'");
    browser.press(ESCAPE);
    browser.await_that("document.querySelectorAll('.lane').length === 100");
    browser.shoot("many");
    // Looks go on while all of them are open.
    browser.press("o");
    browser.await_that("document.querySelectorAll('.row').length === 5000");
    let points = "document.querySelector('.spark polyline').getAttribute('points').length";
    let before = browser.run(&format!("return {points};"));
    browser.await_that(&format!("{points} > {before}"));
    assert_clean(&browser, &played.url());
}

/// The page's arithmetic, by the same cases as that of `strata top`.
#[test]
fn rates_are_those_of_strata_top() {
    let Some(browser) = Browser::start("rates") else { return };
    let played = Played::start(played::every_layer, Vec::new(), Default::default());
    browser.open(&played.url());
    let told = browser.run_promise(
        "import(new URL('dashboard/rates.js', document.baseURI)).then(({ report, quantile, risen }) => {
            const service = (requests, buckets) => ({ name: 'a', mode: 'l7', pools: [], routes: [], listen: [], requests_total: requests,
                server_errors_total: 0, bytes_received_total: 0, bytes_sent_total: 0, connections_total: 0, packets_total: null, drops: [],
                request_duration: { buckets } });
            const status = (pid, uptime_ms, requests, buckets = []) => ({ pid, uptime_ms, services: [service(requests, buckets)], pools: [], packets: null });
            const bucket = (from_us, to_us, count) => ({ from_us, to_us, count });
            const rate = (before, now, elapsed) => report(before, now, elapsed).services[0].rate;
            return [
                rate(status(1, 1000, 10), status(1, 3000, 50), 9999),
                rate(null, status(1, 3000, 50), 1000),
                rate(status(1, 9000, 1000), status(2, 500, 5), 2000),
                rate(status(1, 1000, 10), status(1, 1000, 50), 0),
                rate(status(1, 1000, 50), status(1, 2000, 10), 1000),
                risen(5, 7),
                quantile([{ from: 0, to: 100, count: 50 }, { from: 100, to: 200, count: 50 }], 50),
                quantile([{ from: 0, to: 100, count: 50 }, { from: 100, to: 200, count: 50 }], 99),
                quantile([], 50),
                report(status(1, 0, 0, [bucket(0, 500, 7)]), status(1, 1000, 0, [bucket(0, 500, 7), bucket(60000000, null, 2)]), 1000).services[0].p99,
            ];
        })",
    );
    assert_eq!(told, json!([20, null, 10, null, 10, 5, 100, 198, null, 60_000_000]));
}
