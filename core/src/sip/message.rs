//! A message: one buffer, and spans that say what is where in it.
//!
//! Editing appends the new line to the buffer and points a span at it; serialising copies spans. So what nobody touched
//! is written back byte for byte, and a copy of a message is two allocations.

use super::chars::{is_token_text, push_number, trim};
use super::error::Result;
use super::header::{same_name, HeaderId};
pub use super::layout::{Core, HeaderLine, Layout, Span, Start, View};
use super::method::Method;
use super::name_addr::NameAddrRef;
use super::params::first_of_list;
use super::parse::parse;
use super::uri::UriRef;
use super::via::ViaRef;

/// A message of one's own.
#[derive(Debug, Clone)]
pub struct Message {
    buf: Vec<u8>,
    layout: Layout,
}

impl Message {
    /// From bytes and a layout of them.
    pub(super) fn of(buf: Vec<u8>, layout: Layout) -> Self {
        Self { buf, layout }
    }

    /// Parses and owns.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut layout = Layout::default();
        parse(data, &mut layout)?;
        Ok(View { buf: data, layout: &layout }.to_message())
    }

    pub fn request(method: &str, uri: &str) -> Self {
        let mut message = Self { buf: Vec::with_capacity(640), layout: Layout::default() };
        message.write_request_line(method.as_bytes(), uri.as_bytes());
        message
    }

    pub fn response(status: u16, reason: &str) -> Self {
        let mut message = Self { buf: Vec::with_capacity(640), layout: Layout::default() };
        message.write_status_line(status, reason.as_bytes());
        message
    }

    pub fn view(&self) -> View<'_> {
        View { buf: &self.buf, layout: &self.layout }
    }

    fn write_request_line(&mut self, method: &[u8], uri: &[u8]) {
        let at = self.buf.len();
        self.buf.extend_from_slice(method);
        self.buf.push(b' ');
        self.buf.extend_from_slice(uri);
        self.buf.extend_from_slice(b" SIP/2.0\r\n");
        let uri_at = at + method.len() + 1;
        self.layout.start = Start::Request {
            method: Span::new(at, at + method.len()),
            kind: Method::of(method),
            uri: Span::new(uri_at, uri_at + uri.len()),
        };
        self.layout.start_line = Span::new(at, self.buf.len());
    }

    fn write_status_line(&mut self, status: u16, reason: &[u8]) {
        let at = self.buf.len();
        self.buf.extend_from_slice(b"SIP/2.0 ");
        push_number(&mut self.buf, u64::from(status));
        self.buf.push(b' ');
        let reason_at = self.buf.len();
        self.buf.extend_from_slice(reason);
        self.layout.start = Start::Response { status, reason: Span::new(reason_at, self.buf.len()) };
        self.buf.extend_from_slice(b"\r\n");
        self.layout.start_line = Span::new(at, self.buf.len());
    }

    pub fn set_method(&mut self, method: &str) {
        let uri = self.view().uri().to_vec();
        self.write_request_line(method.as_bytes(), &uri);
    }

    pub fn set_uri(&mut self, uri: &str) {
        let method = self.view().method().to_vec();
        self.write_request_line(&method, uri.as_bytes());
    }

    pub fn set_status(&mut self, status: u16, reason: &str) {
        self.write_status_line(status, reason.as_bytes());
    }

    pub fn reason(&self) -> &[u8] {
        match self.layout.start {
            Start::Response { reason, .. } => reason.of(&self.buf),
            Start::Request { .. } => b"",
        }
    }

    pub fn set_body(&mut self, body: &[u8]) {
        let at = self.buf.len();
        self.buf.extend_from_slice(body);
        self.layout.body = Span::new(at, self.buf.len());
    }

    fn write_line(&mut self, name: &[u8], value: &[u8]) -> HeaderLine {
        let at = self.buf.len();
        self.buf.extend_from_slice(name);
        self.buf.extend_from_slice(b": ");
        let value_at = self.buf.len();
        self.buf.extend_from_slice(value);
        let value_end = self.buf.len();
        self.buf.extend_from_slice(b"\r\n");
        HeaderLine {
            id: HeaderId::of(name),
            name: Span::new(at, at + name.len()),
            value: Span::new(value_at, value_end),
            line: Span::new(at, self.buf.len()),
        }
    }

    fn is(&self, header: &HeaderLine, name: &[u8]) -> bool {
        same_name(header.name.of(&self.buf), name)
    }

    /// Lines of a header by any of its names.
    pub fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.layout
            .headers
            .iter()
            .filter(move |header| self.is(header, name))
            .map(|header| header.value.of(&self.buf))
    }

    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.layout.headers.iter().find(|h| self.is(h, name.as_bytes())).map(|h| h.value.of(&self.buf))
    }

    pub fn header(&self, id: HeaderId) -> Option<&[u8]> {
        self.view().header(id)
    }

    /// (name, value) of every line in order.
    pub fn all(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.layout.headers.iter().map(|header| (header.name.of(&self.buf), header.value.of(&self.buf)))
    }

    pub fn set(&mut self, name: &str, value: &[u8]) {
        let line = self.write_line(name.as_bytes(), value);
        let first = self.layout.headers.iter().position(|header| self.is(header, name.as_bytes()));
        match first {
            Some(first) => {
                let buf = &self.buf;
                let mut index = 0;
                self.layout.headers.retain(|header| {
                    index += 1;
                    index - 1 == first || !same_name(header.name.of(buf), name.as_bytes())
                });
                self.layout.headers[first] = line;
            }
            None => self.layout.headers.push(line),
        }
    }

    pub fn append(&mut self, name: &str, value: &[u8]) {
        let line = self.write_line(name.as_bytes(), value);
        let last = self.layout.headers.iter().rposition(|header| self.is(header, name.as_bytes()));
        self.layout.headers.insert(last.map_or(self.layout.headers.len(), |last| last + 1), line);
    }

    pub fn prepend(&mut self, name: &str, value: &[u8]) {
        let line = self.write_line(name.as_bytes(), value);
        let first = self.layout.headers.iter().position(|header| self.is(header, name.as_bytes()));
        self.layout.headers.insert(first.unwrap_or(0), line);
    }

    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.layout.headers.len();
        let buf = &self.buf;
        self.layout.headers.retain(|header| !same_name(header.name.of(buf), name.as_bytes()));
        before - self.layout.headers.len()
    }

    /// Adds a line at the end without looking for its name; for building.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let line = self.write_line(name.as_bytes(), value);
        self.layout.headers.push(line);
    }

    /// Takes over the values of a header from another message.
    pub fn copy_header(&mut self, from: &View<'_>, id: HeaderId) {
        for header in from.lines(id) {
            let line = self.write_line(id.name().as_bytes(), header.value.of(from.buf));
            self.layout.headers.push(line);
        }
    }

    /// Replaces the first value of the top Via line, leaving the rest of a list.
    pub fn set_top_via(&mut self, value: &[u8]) {
        let Some(index) = self.layout.headers.iter().position(|header| header.id == HeaderId::Via) else {
            return;
        };
        let old = self.layout.headers[index].value.of(&self.buf);
        let mut joined = value.to_vec();
        joined.extend_from_slice(&old[first_of_list(old)..]);
        self.layout.headers[index] = self.write_line(b"Via", &joined);
    }

    pub fn top_via(&self) -> Option<ViaRef<'_>> {
        self.header(HeaderId::Via).and_then(|value| ViaRef::parse(value).ok())
    }

    pub fn from_tag(&self) -> Option<&[u8]> {
        self.address_tag(HeaderId::From)
    }

    pub fn to_tag(&self) -> Option<&[u8]> {
        self.address_tag(HeaderId::To)
    }

    fn address_tag(&self, id: HeaderId) -> Option<&[u8]> {
        self.header(id).and_then(|value| NameAddrRef::parse(value).ok()).and_then(|address| address.tag())
    }

    /// (number, method) of CSeq.
    pub fn cseq(&self) -> Option<(u32, &[u8])> {
        let value = self.header(HeaderId::CSeq)?;
        let digits = value.iter().take_while(|c| c.is_ascii_digit()).count();
        let number = super::chars::number(&value[..digits])?;
        Some((u32::try_from(number).ok()?, trim(&value[digits..])))
    }

    /// URI of the first Contact.
    pub fn contact_uri(&self) -> Result<Option<&[u8]>> {
        let Some(value) = self.header(HeaderId::Contact) else {
            return Ok(None);
        };
        let first = trim(&value[..first_of_list(value)]);
        let address = NameAddrRef::parse(first)?;
        UriRef::parse(address.uri)?;
        Ok(Some(address.uri))
    }

    /// Serialises, with Content-Length set right.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.layout.start_line.of(&self.buf));
        let body = self.layout.body.of(&self.buf);
        let mut announced = false;
        for header in &self.layout.headers {
            if header.id == HeaderId::ContentLength {
                if announced {
                    continue;
                }
                announced = true;
                if super::chars::number(header.value.of(&self.buf)) != Some(body.len() as u64) {
                    push_length(out, body.len());
                    continue;
                }
            }
            out.extend_from_slice(header.line.of(&self.buf));
        }
        if !announced {
            push_length(out, body.len());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.buf.len() + 32);
        self.write_to(&mut out);
        out
    }
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(b"Content-Length: ");
    push_number(out, length as u64);
    out.extend_from_slice(b"\r\n");
}

/// Whether a name and a value may be written as a header line.
pub fn header_is_writable(name: &str, value: &str) -> bool {
    is_token_text(name.as_bytes()) && memchr::memchr3(b'\r', b'\n', 0, value.as_bytes()).is_none()
}
