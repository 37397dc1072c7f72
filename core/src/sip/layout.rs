//! Where everything is in a message's bytes: spans, and a view that reads by them.

use super::error::Result;
use super::header::HeaderId;
use super::message::Message;
use super::method::Method;
use super::params::split_list;
use super::via::ViaRef;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..self.end as usize]
    }

    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Where one header is: name and value trimmed, line with its CRLF.
#[derive(Debug, Clone, Copy)]
pub struct HeaderLine {
    pub id: HeaderId,
    pub name: Span,
    pub value: Span,
    pub line: Span,
}

#[derive(Debug, Clone, Copy)]
pub enum Start {
    Request { method: Span, kind: Method, uri: Span },
    Response { status: u16, reason: Span },
}

/// What matching and routing need, noted while parsing. Not kept up by edits.
#[derive(Debug, Clone, Copy)]
pub struct Core {
    pub method: Method,
    pub cseq: u32,
    pub cseq_method: Span,
    pub call_id: Span,
    pub from_tag: Option<Span>,
    pub to_tag: Option<Span>,
    /// First value of the first Via line.
    pub via: Span,
    /// Index of that line.
    pub via_line: u16,
    pub max_forwards: Option<u8>,
}

impl Default for Core {
    fn default() -> Self {
        Self {
            method: Method::Other,
            cseq: 0,
            cseq_method: Span::default(),
            call_id: Span::default(),
            from_tag: None,
            to_tag: None,
            via: Span::default(),
            via_line: 0,
            max_forwards: None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Layout {
    pub start: Start,
    /// With its CRLF.
    pub start_line: Span,
    pub headers: Vec<HeaderLine>,
    pub body: Span,
    pub core: Core,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            start: Start::Response { status: 100, reason: Span::default() },
            start_line: Span::default(),
            headers: Vec::with_capacity(24),
            body: Span::default(),
            core: Core::default(),
        }
    }
}

/// A parsed message that somebody else owns.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub buf: &'a [u8],
    pub layout: &'a Layout,
}

impl<'a> View<'a> {
    pub fn is_request(&self) -> bool {
        matches!(self.layout.start, Start::Request { .. })
    }

    /// Status of a response, 0 for a request.
    pub fn status(&self) -> u16 {
        match self.layout.start {
            Start::Response { status, .. } => status,
            Start::Request { .. } => 0,
        }
    }

    /// Method of a request, "" for a response.
    pub fn method(&self) -> &'a [u8] {
        match self.layout.start {
            Start::Request { method, .. } => method.of(self.buf),
            Start::Response { .. } => b"",
        }
    }

    pub fn uri(&self) -> &'a [u8] {
        match self.layout.start {
            Start::Request { uri, .. } => uri.of(self.buf),
            Start::Response { .. } => b"",
        }
    }

    pub fn core(&self) -> &'a Core {
        &self.layout.core
    }

    pub fn span(&self, span: Span) -> &'a [u8] {
        span.of(self.buf)
    }

    pub fn call_id(&self) -> &'a [u8] {
        self.span(self.layout.core.call_id)
    }

    pub fn from_tag(&self) -> Option<&'a [u8]> {
        self.layout.core.from_tag.map(|span| span.of(self.buf))
    }

    pub fn to_tag(&self) -> Option<&'a [u8]> {
        self.layout.core.to_tag.map(|span| span.of(self.buf))
    }

    /// Top Via of a freshly parsed message.
    pub fn via(&self) -> Result<ViaRef<'a>> {
        ViaRef::parse(self.span(self.layout.core.via))
    }

    pub fn body(&self) -> &'a [u8] {
        self.span(self.layout.body)
    }

    pub fn lines(&self, id: HeaderId) -> impl Iterator<Item = &'a HeaderLine> + 'a {
        self.layout.headers.iter().filter(move |header| header.id == id)
    }

    /// Value of the first line of a header.
    pub fn header(&self, id: HeaderId) -> Option<&'a [u8]> {
        self.lines(id).next().map(|header| header.value.of(self.buf))
    }

    /// All values of a list header, over all its lines.
    pub fn values(&self, id: HeaderId) -> Vec<&'a [u8]> {
        self.lines(id).flat_map(|header| split_list(header.value.of(self.buf))).collect()
    }

    /// Copies what is needed of the buffer and keeps it.
    pub fn to_message(&self) -> Message {
        Message::of(self.buf[..self.layout.body.end as usize].to_vec(), self.layout.clone())
    }
}
