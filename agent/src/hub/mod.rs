//! The hub as the agent has it: one session at a time, replaced when the credential is. Knows where the credential is
//! kept and how to judge answers; knows no load balancer.

mod keeper;
mod source;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use nave_agent_core::credential::Claims;
use nave_agent_core::tenancy::{self, Answer};
use tokio::sync::{mpsc, watch};

use crate::error::Error;

pub use keeper::Keeper;
pub use source::Source;

/// One credential's client of the hub.
pub struct Session {
    client: Client,
    namespace: String,
    server: String,
    claims: Option<Claims>,
}

impl Session {
    /// Which hub and which tenant: another one, when it differs.
    pub fn place(&self) -> String {
        let Self { client: _, namespace, server, claims: _ } = self;
        format!("{server} {namespace}")
    }

    /// A kind in the tenant's namespace.
    pub fn api<K: Resource<Scope = NamespaceResourceScope>>(&self) -> Api<K>
    where
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Whether our token has not ended by its own word. A credential without a token never ends so.
    fn is_valid(&self) -> bool {
        self.claims.as_ref().is_none_or(|claims| claims.is_valid(Timestamp::now().as_second()))
    }
}

/// What the keeper hears about the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// An answer that tells whether we are known.
    Answer(Answer),
    /// 401 to a token that has ended.
    Expired,
}

/// The hub, for everybody who asks it something.
#[derive(Clone)]
pub struct Hub {
    sessions: watch::Receiver<Option<Arc<Session>>>,
    heard: mpsc::Sender<Heard>,
    trouble: watch::Receiver<String>,
    suspicious: watch::Receiver<bool>,
}

impl Hub {
    /// The present session.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.sessions.borrow().clone()
    }

    /// Sessions as they come.
    pub fn sessions(&self) -> watch::Receiver<Option<Arc<Session>>> {
        self.sessions.clone()
    }

    /// What is wrong with the credential; empty when nothing is.
    pub fn trouble(&self) -> watch::Receiver<String> {
        self.trouble.clone()
    }

    /// Whether the hub is to be asked often, since it has begun to refuse us.
    pub fn suspicious(&self) -> watch::Receiver<bool> {
        self.suspicious.clone()
    }

    /// The hub did what we asked.
    pub fn heard_ok(&self) {
        if *self.suspicious.borrow() {
            self.tell(Heard::Answer(Answer::Known));
        }
    }

    /// Takes in what an answer of the hub says of us, and hands it on.
    pub fn judged<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        match &answer {
            Ok(_) => self.heard_ok(),
            Err(Error::Call { source, .. }) => self.heard(source),
            Err(Error::Silence { .. } | Error::NoHub { .. } | Error::OtherSpoke { .. }) => {}
        }
        answer
    }

    /// The hub did not do what we asked; other failures than its answers say nothing.
    pub fn heard(&self, error: &kube::Error) {
        let kube::Error::Api(status) = error else { return };
        let details = status.details.as_ref();
        let causes: Vec<&str> = details.iter().flat_map(|d| &d.causes).map(|cause| cause.reason.as_str()).collect();
        let kind = details.map_or("", |details| details.kind.as_str());
        let valid = self.session().is_some_and(|session| session.is_valid());
        match tenancy::judge(status.code, kind, &causes, valid) {
            Some(Answer::Known) => self.heard_ok(),
            Some(answer) => self.tell(Heard::Answer(answer)),
            None if status.code == 401 => self.tell(Heard::Expired),
            None => {}
        }
    }

    /// When the keeper has more to hear than it can, it knows enough already.
    fn tell(&self, heard: Heard) {
        let _ = self.heard.try_send(heard);
    }
}

#[cfg(test)]
impl Hub {
    /// A hub that is asked by this client, and what hears of its answers.
    pub fn of(client: Client) -> (Self, impl Sized) {
        let session = Session { client, namespace: "tenant-shop".into(), server: "https://hub".into(), claims: None };
        let (sessions, session) = watch::channel(Some(Arc::new(session)));
        let (answers, heard) = mpsc::channel(1);
        let ((trouble, troubled), (suspicious, suspected)) = (watch::channel(String::new()), watch::channel(false));
        let hub = Self { sessions: session, heard: answers, trouble: troubled, suspicious: suspected };
        (hub, (sessions, heard, trouble, suspicious))
    }
}
