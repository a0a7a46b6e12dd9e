//! Which nodes a certificate is for.

use crate::{Names, TlsError};
use rustls::pki_types::{CertificateDer, ServerName};
use teleport_proto::NodeName;
use webpki::EndEntityCert;

/// What a URI that names a node begins with.
const SCHEME: &str = "teleport://";

/// The object identifiers of the attribute with the common name, 2.5.4.3, and of the extension with alternative names, 2.5.29.17.
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x11];

/// Whether it is for the node of that name. If it names nodes, that is one of them; if not, it is as `names` says.
pub(super) fn check(certificate: &CertificateDer<'_>, name: &NodeName, names: Names) -> Result<(), TlsError> {
    let unreadable = |error| TlsError::Failed(format!("the certificate cannot be read: {error}"));
    let certificate = EndEntityCert::try_from(certificate).map_err(unreadable)?;
    let nodes: Vec<_> = certificate.valid_uri_names().filter_map(|uri| uri.strip_prefix(SCHEME)).collect();
    let host = name.as_str().rsplit_once('@').map_or("", |(_, host)| host);
    let of_host = || {
        ServerName::try_from(host)
            .is_ok_and(|host| certificate.verify_is_valid_for_subject_name(&host).is_ok())
    };
    let common = match names {
        Names::HostOrCommonName => common_names(&certificate),
        _ => Vec::new(),
    };
    let fits = match nodes[..] {
        [] if names == Names::Any => true,
        [] => of_host() || common.iter().any(|common| common.eq_ignore_ascii_case(host)),
        _ => nodes.contains(&name.as_str()),
    };
    if fits {
        return Ok(());
    }
    let named = match nodes[..] {
        [] => certificate.valid_dns_names().chain(common).collect(),
        _ => nodes,
    };
    Err(TlsError::WrongName { name: name.clone(), named: named.join(", ") })
}

/// The common names of the subject, of a certificate that has no alternative names.
fn common_names<'a>(certificate: &'a EndEntityCert<'_>) -> Vec<&'a str> {
    // The extension's identifier anywhere in the certificate is taken for the extension: that is the stricter way.
    let is_named = certificate.der().windows(ALTERNATIVE_NAMES.len()).any(|part| part == ALTERNATIVE_NAMES);
    if is_named {
        return Vec::new();
    }
    let attributes = Elements(certificate.subject()).flat_map(Elements);
    attributes.filter_map(common_name).collect()
}

/// The text of an attribute, if it is a common name.
fn common_name(attribute: &[u8]) -> Option<&str> {
    let text = Elements(attribute.strip_prefix(COMMON_NAME)?).next()?;
    std::str::from_utf8(text).ok()
}

/// What the elements in a piece of DER have in them; ends at what is none.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let (len, rest) = match *self.0 {
            [_, len @ 0..=0x7f, ref rest @ ..] => (usize::from(len), rest),
            [_, 0x81, len, ref rest @ ..] => (usize::from(len), rest),
            [_, 0x82, high, low, ref rest @ ..] => (usize::from(u16::from_be_bytes([high, low])), rest),
            _ => return None,
        };
        let (element, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(element)
    }
}
