//! URIs, name-addrs and Vias: an error has a position inside the input, parts are inside the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voicecore::sip::name_addr::NameAddrRef;
use voicecore::sip::uri::UriRef;
use voicecore::sip::via::ViaRef;

fuzz_target!(|data: &[u8]| {
    match UriRef::parse(data) {
        Ok(uri) => assert!(uri.equivalent(&uri)),
        Err(error) => assert!(error.position <= data.len()),
    }
    if let Err(error) = NameAddrRef::parse(data) {
        assert!(error.position <= data.len());
    }
    match ViaRef::parse(data) {
        Ok(via) => {
            let source = std::net::SocketAddr::from(([10, 0, 0, 1], 5060));
            if let Some(stamped) = via.stamped(source) {
                ViaRef::parse(&stamped).expect("a stamped Via parses");
            }
        }
        Err(error) => assert!(error.position <= data.len()),
    }
});
