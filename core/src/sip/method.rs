//! Methods. Case-sensitive (RFC 3261 §7.1).

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Subscribe,
    Notify,
    Refer,
    Message,
    Info,
    Prack,
    Update,
    Publish,
    Other,
}

impl Method {
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"CANCEL" => Self::Cancel,
            b"REGISTER" => Self::Register,
            b"OPTIONS" => Self::Options,
            b"SUBSCRIBE" => Self::Subscribe,
            b"NOTIFY" => Self::Notify,
            b"REFER" => Self::Refer,
            b"MESSAGE" => Self::Message,
            b"INFO" => Self::Info,
            b"PRACK" => Self::Prack,
            b"UPDATE" => Self::Update,
            b"PUBLISH" => Self::Publish,
            _ => Self::Other,
        }
    }

    /// Requests whose Contact replaces the remote target (RFC 3261 §12.2, 3311, 6665, 3515).
    pub const fn refreshes_target(self) -> bool {
        matches!(self, Self::Invite | Self::Update | Self::Subscribe | Self::Notify | Self::Refer)
    }

    /// Requests that can create a dialog: a proxy that wants to stay on the path records its route in them.
    pub const fn creates_dialog(self) -> bool {
        matches!(self, Self::Invite | Self::Subscribe | Self::Refer)
    }
}
