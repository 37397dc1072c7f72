//! Digest headers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voicecore::sip::digest::{Authorization, Challenge};

fuzz_target!(|data: &[u8]| {
    if let Ok(authorization) = Authorization::parse(data) {
        assert!(!authorization.verify("REGISTER", "0"));
    }
    if let Ok(challenge) = Challenge::parse(data) {
        assert_eq!(Challenge::parse(challenge.write().as_bytes()).expect("what was written parses"), challenge);
    }
});
