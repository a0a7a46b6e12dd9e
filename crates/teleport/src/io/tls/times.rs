//! Certificates of an earlier handshake, which a resumed one shows no more, and rustls looks at no more.

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Verifies them anew if the time of one is over. In their time they are as good as when they were shown.
pub(super) fn check(
    chain: &[CertificateDer<'_>],
    now: UnixTime,
    verify: impl FnOnce(&CertificateDer<'_>, &[CertificateDer<'_>], UnixTime) -> Result<(), rustls::Error>,
) -> Result<(), rustls::Error> {
    let Some((first, others)) = chain.split_first() else { return Ok(()) };
    // A chain may have more in it than counts, so only the verifier refuses.
    if chain.iter().all(|certificate| is_in_time(certificate, now)) {
        return Ok(());
    }
    verify(first, others, now)
}

fn is_in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok(certificate) = Certificate::from_der(certificate) else { return false };
    let validity = certificate.tbs_certificate().validity();
    let (begins, ends) = (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration());
    (begins.as_secs()..=ends.as_secs()).contains(&now.as_secs())
}
