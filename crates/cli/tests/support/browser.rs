//! Pages in a real browser.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Chromium, which must be there.
pub(crate) fn browser() -> &'static str {
    let there = |name: &&str| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(there);
    found.expect("Chromium, which opens the pages (apt-get install chromium)")
}

/// What `script` returns after the page's own script has run, beside all that went wrong in the page: errors, what the
/// console said, promises without an answer, requests that the page's own policy stopped, and resources that it got.
pub(crate) fn in_browser(browser: &str, page: &Path, script: &str) -> Value {
    let html = std::fs::read_to_string(page).unwrap();
    let watch = "<script>window.faults=[];const fault=what=>faults.push(String(what));\
                 addEventListener('error',e=>fault(e.message));addEventListener('unhandledrejection',e=>fault(e.reason));\
                 addEventListener('securitypolicyviolation',e=>fault(e.blockedURI));\
                 ['error','warn'].forEach(name=>{console[name]=fault});</script><style>";
    let act = format!(
        "<pre id=acted></pre><script>{{const key=(on,key)=>on.dispatchEvent(new KeyboardEvent('keydown',{{key,bubbles:true}}));\
         const v=id=>Number(document.getElementById(id).dataset.value);const $$=s=>document.querySelectorAll(s);\
         const r=(()=>{{{script}}})();\
         document.getElementById('acted').textContent=JSON.stringify({{faults,requests:performance.getEntriesByType('resource').length,r}});}}</script></body>"
    );
    let acted = page.with_extension("acted.html");
    std::fs::write(&acted, html.replacen("<style>", watch, 1).replace("</body>", &act)).unwrap();
    let (dom, log) = (page.with_extension("dom"), page.with_extension("log"));
    let mut chromium = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"])
        .arg("--enable-logging=stderr")
        .arg(format!("--user-data-dir={}", page.with_extension("profile").display()))
        .arg(format!("file://{}", acted.display()))
        .stdout(File::create(&dom).unwrap())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let patience = Instant::now();
    while chromium.try_wait().unwrap().is_none() {
        if patience.elapsed() > Duration::from_secs(120) {
            chromium.kill().unwrap();
            panic!("{browser} does not come back");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let (dom, log) = (read(&dom), read(&log));
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{console:?}");
    let Some((_, text)) = dom.split_once("<pre id=\"acted\">") else { panic!("no page came up: {log}") };
    let text = text.split_once("</pre>").unwrap().0;
    let plain = text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let seen: Value = serde_json::from_str(&plain).unwrap_or_else(|error| panic!("{error}: {plain} {log}"));
    assert_eq!((&seen["faults"], &seen["requests"]), (&json!([]), &json!(0)));
    seen["r"].clone()
}
