//! Whatever parses is written back so that it parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voicecore::sip::message::Message;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = Message::parse(data) {
        let bytes = message.to_bytes();
        let again = Message::parse(&bytes).expect("what was written parses");
        assert_eq!(again.to_bytes(), bytes);
    }
});
