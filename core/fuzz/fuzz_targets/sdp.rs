//! SDP: what parses is written back to something that parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voicecore::sip::sdp::Session;

fuzz_target!(|data: &[u8]| {
    if let Ok(session) = Session::parse(data) {
        assert_eq!(Session::parse(&session.to_bytes()).expect("what was written parses"), session);
    }
});
