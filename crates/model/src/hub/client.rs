//! Requests to the hub: authentication, the meaning of a status, and retries.

use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::error::Error;
use super::name::Name;
use super::settings::Hub;

/// The number of tries of a failing request.
pub(super) const TRIES: u32 = 5;
/// The longest pause that a hub can request.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The time limit of one answer; what has arrived by then is kept, and the rest is requested again.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the hub, for one model.
pub(super) struct Client<'a> {
    pub(super) hub: &'a Hub,
    pub(super) name: &'a Name,
    follows: Agent,
    stays: Agent,
}

/// An answer, or the reason to try again.
pub(super) enum Answer {
    /// It arrived.
    Came(Response<Body>),
    /// It didn't; with the pause that the hub requests.
    Again { reason: String, pause: Option<Duration>, too_many: bool },
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub, name: &'a Name) -> Self {
        let agent = |n_redirects: u32| -> Agent {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(n_redirects)
                .max_redirects_will_error(false)
                // The token is for the hub only; redirect targets need none.
                .redirect_auth_headers(RedirectAuthHeaders::SameHost)
                .timeout_connect(Some(Duration::from_secs(10)))
                .timeout_recv_response(Some(Duration::from_secs(30)))
                .timeout_recv_body(Some(PATIENCE))
                .user_agent(concat!("vulpes/", env!("CARGO_PKG_VERSION")))
                .build()
                .into()
        };
        Self { hub, name, follows: agent(10), stays: agent(0) }
    }

    /// The address of a file.
    pub(super) fn address(&self, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{file}", self.hub.endpoint, self.name.model())
    }

    /// Sends a GET request, starting at byte `first` if that isn't 0.
    ///
    /// # Errors
    /// Returns an error if the answer is a permanent failure.
    pub(super) fn get(&self, url: &str, what: &str, first: u64) -> Result<Answer, Error> {
        let mut request = self.follows.get(url);
        if first > 0 {
            request = request.header("Range", format!("bytes={first}-"));
        }
        if let Some(token) = &self.hub.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.judged(request.call(), what)
    }

    /// The headers of the hub's own answer for a file: if the file is stored elsewhere, those of the redirect.
    ///
    /// # Errors
    /// Returns an error if the request is refused, or there is no answer after several tries.
    pub(super) fn head(&self, url: &str, what: &str) -> Result<Response<Body>, Error> {
        let mut url = url.to_owned();
        for _ in 0..10 {
            let answer = self.patiently(&url, |client| {
                let mut request = client.stays.head(&url);
                if let Some(token) = &client.hub.token {
                    request = request.header("Authorization", format!("Bearer {token}"));
                }
                client.judged(request.call(), what)
            })?;
            let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
            match header("location").filter(|to| to.starts_with('/') && answer.status().is_redirection()) {
                // A renamed model: the hub redirects to itself.
                Some(to) if header("x-linked-etag").is_none() => url = format!("{}{to}", self.hub.endpoint),
                _ => return Ok(answer),
            }
        }
        Err(Error::Answer { url, problem: "redirects endlessly".into() })
    }

    /// Repeats a request until an answer arrives.
    ///
    /// # Errors
    /// Returns an error if the request is refused, or there is no answer after several tries.
    pub(super) fn patiently(
        &self,
        url: &str,
        ask: impl Fn(&Self) -> Result<Answer, Error>,
    ) -> Result<Response<Body>, Error> {
        let mut tried = 0;
        loop {
            match ask(self)? {
                Answer::Came(answer) => return Ok(answer),
                Answer::Again { reason, pause, too_many } => {
                    tried += 1;
                    if tried == TRIES {
                        return Err(self.gave_up(url, reason, too_many));
                    }
                    self.rest(tried, pause);
                }
            }
        }
    }

    /// The error of a request that failed on every try.
    pub(super) fn gave_up(&self, url: &str, reason: String, too_many: bool) -> Error {
        match too_many {
            true => Error::TooMany { endpoint: self.hub.endpoint.clone() },
            false => Error::Request { url: url.to_owned(), reason },
        }
    }

    /// Pauses after the given try.
    pub(super) fn rest(&self, tried: u32, asked: Option<Duration>) {
        std::thread::sleep(asked.unwrap_or(self.hub.pause * 2_u32.pow(tried - 1)).min(LONGEST_PAUSE));
    }

    fn judged(&self, answer: Result<Response<Body>, ureq::Error>, what: &str) -> Result<Answer, Error> {
        let again = |reason: String| Answer::Again { reason, pause: None, too_many: false };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Ok(again(error.to_string())),
        };
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let status = answer.status().as_u16();
        let (model, endpoint) = (self.name.model(), self.hub.endpoint.clone());
        let code = header("x-error-code").unwrap_or_default();
        match status {
            401 | 403 if code == "GatedRepo" || status == 403 => {
                Err(Error::Gated { model, endpoint, status })
            }
            404 if code != "RepoNotFound" && !what.is_empty() => {
                Err(Error::NoSuch { model, endpoint, what: what.to_owned() })
            }
            401 | 404 => Err(Error::NotThere { model, endpoint, status }),
            429 => {
                let pause =
                    header("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
                Ok(Answer::Again { reason: "too many requests".into(), pause, too_many: true })
            }
            500.. => Ok(again(format!("status {status}"))),
            _ => Ok(Answer::Came(answer)),
        }
    }
}
