//! Helpers that open pages in a real browser.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Chromium, which must be installed.
pub(crate) fn browser() -> &'static str {
    let there = |name: &&str| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(there);
    found.expect("Chromium, which opens the pages (apt-get install chromium)")
}

/// A page and its viewport: the browser's default width, or a frame of a number of pixels (no window is as narrow as a
/// phone).
#[derive(Clone, Copy)]
pub(crate) struct Opened<'a> {
    pub(crate) page: &'a Path,
    pub(crate) width: Option<usize>,
    /// The fragment of its address.
    pub(crate) fragment: &'a str,
}

/// The result of `script` after the page's own script has run, and everything that went wrong in the page: errors,
/// console output, unhandled promise rejections, requests blocked by the page's policy, and loaded resources.
pub(crate) fn in_browser(browser: &str, page: &Path, script: &str) -> Value {
    in_page(browser, Opened { page, width: None, fragment: "" }, script)
}

/// [`in_browser`] for a page with a given viewport.
pub(crate) fn in_page(browser: &str, opened: Opened, script: &str) -> Value {
    let Opened { page, width, fragment } = opened;
    let html = std::fs::read_to_string(page).unwrap();
    // The page's policy allows only its own script: the tests' scripts are allowed by a nonce.
    assert_eq!(html.matches("script-src 'sha256-").count(), 1, "the page's policy names its script");
    let html = html.replacen("script-src '", "script-src 'nonce-test' '", 1);
    let watch = "<script nonce=test>window.faults=[];const fault=what=>faults.push(String(what));\
                 addEventListener('error',e=>fault(e.message));addEventListener('unhandledrejection',e=>fault(e.reason));\
                 addEventListener('securitypolicyviolation',e=>fault(e.blockedURI));\
                 ['error','warn'].forEach(name=>{console[name]=fault});</script><style>";
    let act = format!(
        "<pre id=acted></pre><script nonce=test>{{const key=(on,key)=>on.dispatchEvent(new KeyboardEvent('keydown',{{key,bubbles:true}}));\
         const v=id=>Number(document.getElementById(id).dataset.value);const $$=s=>document.querySelectorAll(s);\
         const r=(()=>{{{script}}})();\
         const acted=JSON.stringify({{faults,requests:performance.getEntriesByType('resource').length,r}}).replace(/[^ -~]/g,c=>String.fromCharCode(92)+'u'+c.charCodeAt(0).toString(16).padStart(4,'0'));\
         document.getElementById('acted').textContent=acted;if(parent!==window)parent.postMessage(acted,'*');}}</script></body>"
    );
    let acted = page.with_extension("acted.html");
    std::fs::write(&acted, html.replacen("<style>", watch, 1).replace("</body>", &act)).unwrap();
    let mut address = format!("file://{}#{fragment}", acted.display());
    if let Some(width) = width {
        let around = page.with_extension("frame.html");
        let frame = format!(
            "<pre id=\"acted\"></pre><script>addEventListener('message',e=>{{acted.textContent=e.data}})</script>\
             <iframe width={width} height=800 src=\"{}#{fragment}\"></iframe>",
            acted.file_name().unwrap().to_str().unwrap()
        );
        std::fs::write(&around, frame).unwrap();
        address = format!("file://{}", around.display());
    }
    let (dom, log) = (page.with_extension("dom"), page.with_extension("log"));
    let mut chromium = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"])
        .arg("--enable-logging=stderr")
        .arg(format!("--user-data-dir={}", page.with_extension("profile").display()))
        .args(width.map(|_| "--virtual-time-budget=3000"))
        .arg(address)
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
